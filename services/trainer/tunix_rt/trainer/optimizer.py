"""AdamW with warmup, decay and clipping, for whichever parameters are trained."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tunix_rt.trainer.specfile import OptimizerSettings


def learning_rate(settings: OptimizerSettings, step: int, *, steps: int) -> float:
    """The rate of a step from 1: a line up to the peak over the warmup steps, then the decay.

    The first step after warmup has the peak; the decay would reach zero one step after the last.
    """
    warmup = settings.warmup_steps
    if step <= warmup:
        return settings.learning_rate * step / warmup
    progress = (step - 1 - warmup) / (steps - warmup)
    factors = {
        "COSINE": 0.5 * (1.0 + math.cos(math.pi * progress)),
        "LINEAR": 1.0 - progress,
        "CONSTANT": 1.0,
    }
    return settings.learning_rate * factors[settings.decay]


def make_optimizer(settings: OptimizerSettings) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) behind clipping by the global norm.

    Its updates are yet to be multiplied by minus the step's learning rate, which is no part of the
    compiled step. Weight decay leaves out parameters of one axis, which are the norms' scales.
    """
    clip = [_clip(settings.clip_norm)] if settings.clip_norm > 0 else []
    return optax.chain(
        *clip,
        optax.scale_by_adam(b1=settings.beta1, b2=settings.beta2),
        optax.add_decayed_weights(settings.weight_decay, mask=_decayed),
    )


def _clip(largest: float) -> optax.GradientTransformation:
    """Shrinks gradients so that their global norm is at most `largest`.

    By one factor for all: XLA keeps a copy of gradients that optax's clip has divided.
    """

    def shrink(gradients: Any, _parameters: Any) -> Any:
        norm = optax.tree.norm(gradients)
        factor = jnp.where(norm < largest, jnp.float32(1), largest / norm)
        return jax.tree.map(lambda leaf: leaf * factor, gradients)

    return optax.stateless(shrink)


def _decayed(parameters: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, parameters)
