"""The loss over the weighted positions of a batch, without ever holding all logits."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tunix_rt.lm.attention import capped
from tunix_rt.lm.training_ops import add_weight_gradient, input_gradient, linear, softmax_gradient

CHUNK = 256

Array = jax.Array | np.ndarray


class Sums(NamedTuple):
    """Weighted sums over positions: negative log-likelihood (nats), hits, entropy of predictions (nats).

    They are means where the weights sum to 1.
    """

    loss: jax.Array
    accuracy: jax.Array
    entropy: jax.Array


class Gathered(NamedTuple):
    """The positions of a batch that count in the loss, first and in order, in arrays of fixed size.

    `rows` are indices into the flattened batch, padding points behind its end; `weights` are shares of a
    total, which is their sum unless another is given; `chunks` is how many chunks have one that counts.
    """

    rows: Array
    targets: Array
    weights: Array
    chunks: Array


def gather_rows(targets: np.ndarray, weights: np.ndarray, *, total: float | None = None) -> Gathered:
    """The positions of weight above 0 among targets and weights (B, T); their size is fixed by B and T.

    Weights are divided by `total`, or else by their sum.
    """
    flat = weights.reshape(-1)
    size = -(-flat.size // CHUNK) * CHUNK
    found = np.flatnonzero(flat)
    rows = np.full(size, flat.size, np.int32)
    rows[: found.size] = found
    chosen_targets, chosen_weights = np.zeros(size, np.int32), np.zeros(size, np.float32)
    chosen_targets[: found.size] = targets.reshape(-1)[found]
    if found.size:
        chosen_weights[: found.size] = flat[found] / (total or flat.sum(dtype=np.float64))
    chunks = np.array(-(-found.size // CHUNK), np.int32)
    return Gathered(rows, chosen_targets, chosen_weights, chunks)


def completion_loss(
    hidden: jax.Array,
    head: jax.Array,
    gathered: Gathered,
    *,
    train_head: bool,
    softcap: float | None = None,
) -> Sums:
    """Weighted sums over the gathered positions of their loss, their accuracy and their entropy.

    hidden (positions, H), float32 or bfloat16, head (V, H) float32: products are of hidden's type, with sums,
    logits and loss in float32. Visits chunks of positions; where gradients of the loss
    are asked for, they are made in the same sweep, so that logits (chunk, V) exist one chunk at a time.
    Without `train_head`, the head's gradient is zero and costs nothing. `softcap` is the model's.
    """
    return _sweep(hidden, head, gathered, train_head, softcap)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _sweep(
    hidden: jax.Array, head: jax.Array, gathered: Gathered, train_head: bool, softcap: float | None
) -> Sums:
    del train_head

    def visit(index: jax.Array, sums: Sums) -> Sums:
        states, targets, weights, _ = _chunk(hidden, gathered, index)
        return _scores(_logits(states, head), targets, weights, sums, softcap)[0]

    sums: Sums = lax.fori_loop(0, gathered.chunks, visit, _nothing())
    return sums


def _sweep_forward(
    hidden: jax.Array, head: jax.Array, gathered: Gathered, train_head: bool, softcap: float | None
) -> tuple[Sums, tuple[jax.Array, jax.Array | None, jax.Array]]:
    def visit(
        index: jax.Array, carry: tuple[Sums, jax.Array, jax.Array]
    ) -> tuple[Sums, jax.Array, jax.Array]:
        sums, hidden_grad, head_grad = carry
        states, targets, weights, rows = _chunk(hidden, gathered, index)
        sums, logits_grad = _scores(_logits(states, head), targets, weights, sums, softcap)
        hidden_grad = hidden_grad.at[rows].set(_states_gradient(logits_grad, head, states.dtype), mode="drop")
        if train_head:
            head_grad = _head_gradient(head_grad, logits_grad, states)
        return sums, hidden_grad, head_grad

    head_grad = jnp.zeros_like(head) if train_head else jnp.zeros((), jnp.float32)
    start = (_nothing(), jnp.zeros_like(hidden), head_grad)
    sums, hidden_grad, head_grad = lax.fori_loop(0, gathered.chunks, visit, start)
    return sums, (hidden_grad, head_grad if train_head else None, head)


def _sweep_backward(
    _train_head: bool,
    _softcap: float | None,
    saved: tuple[jax.Array, jax.Array | None, jax.Array],
    cotangents: Sums,
) -> tuple[jax.Array, jax.Array, None]:
    hidden_grad, head_grad, head = saved
    scale = cotangents.loss  # accuracy and entropy have no gradient
    scaled = (hidden_grad * scale).astype(hidden_grad.dtype)
    return scaled, jnp.zeros_like(head) if head_grad is None else head_grad * scale, None


_sweep.defvjp(_sweep_forward, _sweep_backward)


def _logits(states: jax.Array, head: jax.Array) -> jax.Array:
    if states.dtype == jnp.float32:
        return linear(states, head)
    return jnp.matmul(states, head.astype(states.dtype).T, preferred_element_type=jnp.float32)


def _states_gradient(logits_grad: jax.Array, head: jax.Array, kind: jnp.dtype) -> jax.Array:
    if kind == jnp.float32:
        return input_gradient(logits_grad, head)
    return logits_grad.astype(kind) @ head.astype(kind)


def _head_gradient(total: jax.Array, logits_grad: jax.Array, states: jax.Array) -> jax.Array:
    if states.dtype == jnp.float32:
        return add_weight_gradient(total, logits_grad, states)
    narrow = logits_grad.astype(states.dtype).T
    return total + jnp.matmul(narrow, states, preferred_element_type=jnp.float32)


def _nothing() -> Sums:
    zero = jnp.zeros((), jnp.float32)
    return Sums(zero, zero, zero)


def _chunk(
    hidden: jax.Array, gathered: Gathered, index: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    rows, targets, weights = (
        lax.dynamic_slice_in_dim(jnp.asarray(part), index * CHUNK, CHUNK)
        for part in (gathered.rows, gathered.targets, gathered.weights)
    )
    return jnp.take(hidden, rows, axis=0, mode="clip"), targets, weights, rows


def _scores(
    logits: jax.Array, targets: jax.Array, weights: jax.Array, sums: Sums, softcap: float | None
) -> tuple[Sums, jax.Array]:
    """The sums with those of a chunk added, and the gradient at logits (chunk, V), before their soft-cap."""
    logits = capped(logits, softcap)
    facts, gradient = softmax_gradient(logits, targets, weights)
    own, total, mean, hit = facts.T
    loss = jnp.log(total) - own
    entropy = jnp.log(total) - mean / total
    added = (jnp.sum(weights * each) for each in (loss, hit, entropy))
    if softcap is not None:
        gradient = gradient * (1 - jnp.square(logits / softcap))  # of c tanh(x / c)
    return Sums(*(old + new for old, new in zip(sums, added, strict=True))), gradient
