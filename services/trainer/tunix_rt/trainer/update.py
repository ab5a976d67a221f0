"""From a step's gradient to the next weights, moments and average, as a function to be compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from tunix_rt.lm.training_ops import own_kernels
from tunix_rt.trainer.adamw import InPlaceTransformation
from tunix_rt.trainer.gradient import Graded

Tree = Any
Number = jax.Array | np.ndarray | np.float32


class Carried(NamedTuple):
    """What one step leaves to the next: weights, optimizer state, and the weights' average or None."""

    trained: Tree
    optimizer: Tree
    averaged: Tree | None = None

    @property
    def result(self) -> Tree:
        """The weights that are validated and exported."""
        return self.trained if self.averaged is None else self.averaged


class Controls(NamedTuple):
    """What the host decides for a step: its rate, the norm above which it is skipped, and a key (2,)."""

    rate: Number
    largest_norm: Number = np.float32(np.inf)
    key: Number = np.zeros(2, np.uint32)


def apply_gradient(
    optimizer: optax.GradientTransformation,
    carried: Carried,
    graded: Graded,
    controls: Controls,
    *,
    ema_decay: float,
) -> tuple[Carried, dict[str, jax.Array]]:
    """The state after the step, and its scalars: the sums, grad_norm, update_norm, finite and skipped.

    Unless finite, or when skipped, nothing has changed.
    """
    norm = optax.tree.norm(graded.gradient)
    finite = jnp.isfinite(graded.sums.loss) & jnp.isfinite(norm)
    skipped = norm > controls.largest_norm

    def update(old: Carried) -> tuple[Carried, jax.Array]:
        trained, state, change = _changed(optimizer, old, graded.gradient, norm, controls.rate)
        averaged = old.averaged
        if averaged is not None:
            averaged = jax.tree.map(
                lambda mean, leaf: ema_decay * mean + (1.0 - ema_decay) * leaf, averaged, trained
            )
        return Carried(trained, state, averaged), jnp.asarray(controls.rate) * change

    # A branch, because selecting element by element would need copies of the old values.
    made, update_norm = lax.cond(
        finite & ~skipped, update, lambda old: (old, jnp.zeros((), jnp.float32)), carried
    )
    scalars = {**graded.sums._asdict(), "grad_norm": norm, "update_norm": update_norm}
    return made, {**scalars, "finite": finite, "skipped": skipped}


def _changed(
    optimizer: optax.GradientTransformation, old: Carried, gradient: Tree, norm: jax.Array, rate: Number
) -> tuple[Tree, Tree, jax.Array]:
    """The next weights and optimizer state, and the norm of the updates before the rate."""
    arrays = jax.tree.leaves((old.trained, gradient))
    if isinstance(optimizer, InPlaceTransformation) and own_kernels(*arrays):
        return optimizer.in_place(gradient, norm, old.optimizer, old.trained, rate)
    updates, state = optimizer.update(gradient, old.optimizer, old.trained)
    trained = jax.tree.map(lambda leaf, update: leaf - rate * update, old.trained, updates)
    return trained, state, optax.tree.norm(updates)
