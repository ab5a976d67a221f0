"""AdamW with warmup, decay and clipping, for whichever parameters are trained."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tunix_rt.trainer.specfile import OptimizerSettings


def learning_rate(settings: OptimizerSettings, step: jax.Array, *, steps: int) -> jax.Array:
    """The rate of a step from 1: a line up to the peak over the warmup steps, then the decay.

    The first step after warmup has the peak; the decay would reach zero one step after the last.
    """
    now = step.astype(jnp.float32)
    warm = now / jnp.float32(max(settings.warmup_steps, 1))
    progress = (now - 1 - settings.warmup_steps) / jnp.float32(max(steps - settings.warmup_steps, 1))
    if settings.decay == "COSINE":
        decayed = 0.5 * (1.0 + jnp.cos(math.pi * progress))
    elif settings.decay == "LINEAR":
        decayed = 1.0 - progress
    else:
        decayed = jnp.ones_like(progress)
    factor = jnp.where(step <= settings.warmup_steps, warm, decayed)
    rate: jax.Array = jnp.float32(settings.learning_rate) * factor
    return rate


def make_optimizer(settings: OptimizerSettings, *, steps: int) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) behind clipping by the global norm.

    Weight decay leaves out parameters of fewer than two axes, which are the norms' scales.
    """
    clip = [optax.clip_by_global_norm(settings.clip_norm)] if settings.clip_norm > 0 else []
    return optax.chain(
        *clip,
        optax.scale_by_adam(b1=settings.beta1, b2=settings.beta2),
        optax.add_decayed_weights(settings.weight_decay, mask=_decayed),
        optax.scale_by_learning_rate(lambda count: learning_rate(settings, count + 1, steps=steps)),
    )


def _decayed(parameters: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, parameters)
