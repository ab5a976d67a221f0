"""The loss over the weighted positions of a batch, without ever holding all logits."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

CHUNK = 128

Array = jax.Array | np.ndarray
Sums = tuple[jax.Array, jax.Array]


class Gathered(NamedTuple):
    """The positions of a batch that count in the loss, first and in order, in arrays of fixed size.

    `rows` are indices into the flattened batch, padding points behind its end; `weights` sum to 1;
    `chunks` is how many chunks have a position that counts.
    """

    rows: Array
    targets: Array
    weights: Array
    chunks: Array


def gather_rows(targets: np.ndarray, weights: np.ndarray, total: float | None = None) -> Gathered:
    """The positions of weight above 0 among targets and weights (B, T); their size is fixed by B and T.

    Weights are divided by `total`, or by their sum.
    """
    flat = weights.reshape(-1)
    size = -(-flat.size // CHUNK) * CHUNK
    found = np.flatnonzero(flat)
    rows = np.full(size, flat.size, np.int32)
    rows[: found.size] = found
    chosen_targets, chosen_weights = np.zeros(size, np.int32), np.zeros(size, np.float32)
    chosen_targets[: found.size] = targets.reshape(-1)[found]
    total = flat.sum(dtype=np.float64) if total is None else total
    if found.size:
        chosen_weights[: found.size] = flat[found] / total
    chunks = np.array(-(-found.size // CHUNK), np.int32)
    return Gathered(rows, chosen_targets, chosen_weights, chunks)


def completion_loss(hidden: jax.Array, head: jax.Array, gathered: Gathered, *, train_head: bool) -> Sums:
    """Weighted mean negative log-likelihood, in nats, and token accuracy of the gathered positions.

    hidden (positions, H), head (V, H), both float32. Visits chunks of positions; where gradients are
    asked for, they are made in the same sweep, so that logits (chunk, V) exist one chunk at a time.
    Without `train_head`, the head's gradient is zero and costs nothing.
    """
    loss, accuracy = _sweep(hidden, head, gathered, train_head)
    return loss, accuracy


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _sweep(hidden: jax.Array, head: jax.Array, gathered: Gathered, train_head: bool) -> Sums:
    del train_head

    def visit(index: jax.Array, sums: Sums) -> Sums:
        states, targets, weights, _ = _chunk(hidden, gathered, index)
        loss, correct, _ = _scores(states @ head.T, targets, weights)
        return sums[0] + loss, sums[1] + correct

    zero = jnp.zeros((), jnp.float32)
    sums: Sums = lax.fori_loop(0, gathered.chunks, visit, (zero, zero))
    return sums


def _sweep_forward(
    hidden: jax.Array, head: jax.Array, gathered: Gathered, train_head: bool
) -> tuple[Sums, tuple[jax.Array, jax.Array | None, jax.Array]]:
    def visit(
        index: jax.Array, carry: tuple[Sums, jax.Array, jax.Array]
    ) -> tuple[Sums, jax.Array, jax.Array]:
        sums, hidden_grad, head_grad = carry
        states, targets, weights, rows = _chunk(hidden, gathered, index)
        loss, correct, logits_grad = _scores(states @ head.T, targets, weights)
        hidden_grad = hidden_grad.at[rows].set(logits_grad @ head, mode="drop")
        if train_head:
            head_grad = head_grad + logits_grad.T @ states
        return (sums[0] + loss, sums[1] + correct), hidden_grad, head_grad

    zero = jnp.zeros((), jnp.float32)
    head_grad = jnp.zeros_like(head) if train_head else zero
    start = ((zero, zero), jnp.zeros_like(hidden), head_grad)
    sums, hidden_grad, head_grad = lax.fori_loop(0, gathered.chunks, visit, start)
    return sums, (hidden_grad, head_grad if train_head else None, head)


def _sweep_backward(
    _train_head: bool, saved: tuple[jax.Array, jax.Array | None, jax.Array], cotangents: Sums
) -> tuple[jax.Array, jax.Array, None]:
    hidden_grad, head_grad, head = saved
    scale = cotangents[0]  # the accuracy has no gradient
    if head_grad is None:
        return hidden_grad * scale, jnp.zeros_like(head), None
    return hidden_grad * scale, head_grad * scale, None


_sweep.defvjp(_sweep_forward, _sweep_backward)


def _chunk(
    hidden: jax.Array, gathered: Gathered, index: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    rows, targets, weights = (
        lax.dynamic_slice_in_dim(jnp.asarray(part), index * CHUNK, CHUNK)
        for part in (gathered.rows, gathered.targets, gathered.weights)
    )
    return jnp.take(hidden, rows, axis=0, mode="clip"), targets, weights, rows


def _scores(
    logits: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Summed loss, summed hits, and the loss's gradient at logits (chunk, V)."""
    highest = jnp.max(logits, axis=-1)
    scaled = jnp.exp(logits - highest[:, None])
    total = jnp.sum(scaled, axis=-1)
    places = jnp.arange(targets.shape[0])
    loss = jnp.sum(weights * (jnp.log(total) + highest - logits[places, targets]))
    correct = jnp.sum(weights * (jnp.argmax(logits, axis=-1) == targets))
    gradient = (scaled * (weights / total)[:, None]).at[places, targets].add(-weights)
    return loss, correct, gradient
