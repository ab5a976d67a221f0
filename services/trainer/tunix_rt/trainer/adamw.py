"""AdamW as one pass over each parameter, where kernels can take it; its state is optax's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tunix_rt.lm.kernels.training_adamw import Factors, Number, change
from tunix_rt.trainer.optimizer_settings import OptimizerSettings
from tunix_rt.trainer.roles import not_among

Tree = Any
InPlace = Callable[[Tree, jax.Array, Any, Tree, Number], tuple[Tree, Any, jax.Array]]


class InPlaceTransformation(NamedTuple):
    """An optax.GradientTransformation that can also change weights that `own_kernels` allows itself.

    `in_place(gradient, norm, state, weights, rate)`, with the gradient's global norm, gives the next weights
    and state, and the norm of the updates before they are multiplied by the rate.
    """

    init: Callable[[Tree], Any]
    update: Callable[..., tuple[Tree, Any]]
    in_place: InPlace


def adamw_in_place(settings: OptimizerSettings) -> InPlace:
    """Clipping, AdamW and decay in place, for the state of optax's chain of them.

    XLA makes the updates of all parameters before it adds the first where their norm is asked for, which
    takes as much memory as the weights.
    """

    def in_place(
        gradient: Tree, norm: jax.Array, state: tuple[Any, ...], weights: Tree, rate: Number
    ) -> tuple[Tree, tuple[Any, ...], jax.Array]:
        adam = next(each for each in state if isinstance(each, optax.ScaleByAdamState))
        count = optax.safe_increment(adam.count)
        factors = {
            decays: _factors(settings, count, norm, rate, decay=settings.weight_decay if decays else 0.0)
            for decays in (False, True)
        }
        changed = jax.tree.map(
            lambda decays, *arrays: change(*arrays, factors=factors[decays]),
            *(not_among(settings.no_decay)(weights), weights, gradient, adam.mu, adam.nu),
        )
        trained, mu, nu, squares = jax.tree.transpose(jax.tree.structure(weights), None, changed)
        made = optax.ScaleByAdamState(count, mu, nu)
        state = tuple(made if each is adam else each for each in state)
        return trained, state, jnp.sqrt(jax.tree.reduce(jnp.add, squares))

    return in_place


def clip_factor(norm: jax.Array, largest: float) -> jax.Array:
    """What gradients of a global norm are multiplied by, so that it is at most `largest`."""
    return jnp.where(norm < largest, jnp.float32(1), largest / norm)


def _factors(
    settings: OptimizerSettings, count: jax.Array, norm: jax.Array, rate: Number, *, decay: float
) -> jax.Array:
    clip, beta1, beta2 = settings.clip_norm, settings.beta1, settings.beta2
    factors = Factors(
        rate=rate,
        gradient=clip_factor(norm, clip) if clip > 0 else 1.0,
        mean=beta1,
        mean_own=1 - beta1,
        mean_share=1 - beta1**count,
        square=beta2,
        square_own=1 - beta2,
        square_share=1 - beta2**count,
        epsilon=settings.epsilon,
        decay=decay,
    )
    return jnp.stack([jnp.asarray(each, jnp.float32) for each in factors])
