"""From a step's gradient to the next weights, moments and average, as a function to be compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

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
    """The state after the step, and its scalars loss, accuracy, grad_norm, update_norm, finite and skipped.

    Unless finite, or when skipped, nothing has changed.
    """
    norm = optax.tree.norm(graded.gradient)
    finite = jnp.isfinite(graded.loss) & jnp.isfinite(norm)
    skipped = norm > controls.largest_norm
    updates, state = optimizer.update(graded.gradient, carried.optimizer, carried.trained)
    trained = jax.tree.map(lambda leaf, update: leaf - controls.rate * update, carried.trained, updates)
    averaged = carried.averaged
    if averaged is not None:
        averaged = jax.tree.map(
            lambda mean, leaf: ema_decay * mean + (1.0 - ema_decay) * leaf, averaged, trained
        )
    keep = finite & ~skipped
    made: Carried = jax.tree.map(
        lambda new, old: jnp.where(keep, new, old), Carried(trained, state, averaged), carried
    )
    scalars = {"loss": graded.loss, "accuracy": graded.accuracy, "grad_norm": norm}
    scalars["update_norm"] = jnp.where(keep, controls.rate * optax.tree.norm(updates), 0.0)
    return made, {**scalars, "finite": finite, "skipped": skipped}
