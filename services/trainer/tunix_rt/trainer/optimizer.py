"""The update rules and the learning rate of whichever parameters are trained; see docs/training.md."""

from __future__ import annotations

import math
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from tunix_rt.trainer.adamw import InPlaceTransformation, adamw_in_place, clip_factor
from tunix_rt.trainer.optimizer_settings import OptimizerSettings, stable_steps
from tunix_rt.trainer.roles import MATRICES, not_among, roles

_ADAM_RMS = 0.2
_UPDATE_RMS = 1.0


def learning_rate(settings: OptimizerSettings, step: int, *, steps: int) -> float:
    """The rate of a step from 1: a line up to the peak over the warmup steps, then the decay.

    The decay's first step has the peak; one step after the last it would reach `final_ratio` of it.
    """
    warmup = settings.warmup_steps
    if step <= warmup:
        return settings.learning_rate * step / warmup
    stable = stable_steps(settings, steps=steps)
    progress = max(0.0, (step - 1 - stable) / (steps - stable))
    factors = {
        "COSINE": 0.5 * (1.0 + math.cos(math.pi * progress)),
        "LINEAR": 1.0 - progress,
        "CONSTANT": 1.0,
        "WSD": 1.0 - progress,
    }
    factor = factors[settings.decay]
    return settings.learning_rate * (settings.final_ratio * (1.0 - factor) + factor)


def make_optimizer(settings: OptimizerSettings) -> optax.GradientTransformation:
    """Clipping by the global norm, the rule of the algorithm, and decoupled weight decay.

    Its updates are yet to be multiplied by minus the step's learning rate, which is no part of the
    compiled step.
    """
    clip = [_clip(settings.clip_norm)] if settings.clip_norm > 0 else []
    chain = optax.chain(
        *clip,
        _rule(settings),
        optax.add_decayed_weights(settings.weight_decay, mask=not_among(settings.no_decay)),
    )
    if settings.algorithm == "ADAMW":
        return InPlaceTransformation(chain.init, chain.update, adamw_in_place(settings))
    return chain


def _clip(largest: float) -> optax.GradientTransformation:
    """Shrinks gradients so that their global norm is at most `largest`.

    By one factor for all: XLA keeps a copy of gradients that optax's clip has divided.
    """

    def shrink(gradients: Any, _parameters: Any) -> Any:
        factor = clip_factor(optax.tree.norm(gradients), largest)
        return jax.tree.map(lambda leaf: leaf * factor, gradients)

    return optax.stateless(shrink)


def _rule(settings: OptimizerSettings) -> optax.GradientTransformation:
    adam = optax.scale_by_adam(b1=settings.beta1, b2=settings.beta2, eps=settings.epsilon)
    match settings.algorithm:
        case "ADAFACTOR":
            return optax.chain(
                optax.scale_by_factored_rms(),
                optax.clip_by_block_rms(_UPDATE_RMS),
                optax.scale_by_param_block_rms(),
            )
        case "LION":
            return optax.scale_by_lion(b1=settings.beta1, b2=settings.beta2)
        case "MUON":
            return optax.partition({True: _muon(settings.beta1), False: adam}, _is_matrix)
        case _:
            return adam


def _muon(momentum: float) -> optax.GradientTransformation:
    """Muon whose updates have the root mean square of Adam's, so that one learning rate serves both."""
    return optax.chain(
        scale_by_muon(beta=momentum, weight_dimension_numbers=_whole),
        optax.stateless(lambda updates, _: jax.tree.map(_as_large_as_adam, updates)),
    )


def _as_large_as_adam(update: jax.Array) -> jax.Array:
    return update * (_ADAM_RMS * math.sqrt(max(update.shape)))


def _whole(updates: Any) -> Any:
    return jax.tree.map(lambda _: MuonDimensionNumbers(), updates)


def _is_matrix(parameters: Any) -> Any:
    return jax.tree.map(lambda role: role == MATRICES, roles(parameters))
