"""Operations of the decoder with their gradients: by kernels of our own on the CPU, by XLA elsewhere."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tunix_rt.lm.kernels import (
    training_attention,
    training_gates,
    training_norms,
    training_products,
    training_softmax,
)


def own_kernels(*arrays: jax.Array) -> bool:
    """Whether the kernels can take these arrays: float32, on the CPU as the only device."""
    single = jax.default_backend() == "cpu" and jax.device_count() == 1
    return single and all(array.dtype == jnp.float32 for array in arrays)


def linear(x: jax.Array, weight: jax.Array) -> jax.Array:
    """x (rows, inputs) times the transpose of weight (outputs, inputs): (rows, outputs)."""
    if x.ndim == 2 and own_kernels(x, weight):
        return _linear(x, weight)
    return x @ weight.T


@jax.custom_vjp
def _linear(x: jax.Array, weight: jax.Array) -> jax.Array:
    return training_products.forward(x, weight)


def _linear_forward(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return training_products.forward(x, weight), (x, weight)


def _linear_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    return training_products.input_gradient(dy, weight), training_products.weight_gradient(dy, x)


_linear.defvjp(_linear_forward, _linear_backward)


def input_gradient(dy: jax.Array, weight: jax.Array) -> jax.Array:
    """The gradient (rows, inputs) of `linear` at x for dy (rows, outputs)."""
    return training_products.input_gradient(dy, weight) if own_kernels(dy, weight) else dy @ weight


def add_weight_gradient(total: jax.Array, dy: jax.Array, x: jax.Array) -> jax.Array:
    """The gradient (outputs, inputs) of `linear` at the weight for dy (rows, outputs), added to `total`."""
    if own_kernels(total, dy, x):
        return training_products.add_weight_gradient(total, dy, x)
    return total + dy.T @ x


def softmax_gradient(
    logits: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Facts (rows, 4) and the gradient at logits (rows, vocabulary) of the sum of weighted losses.

    With z the logits less their largest: the target's z, the sum of exp(z), the sum of z exp(z), and 1 where
    the target is the first of the largest.
    """
    if own_kernels(logits, weights):
        return training_softmax.softmax_gradient(logits, targets.astype(jnp.int32), weights)
    z = logits - jnp.max(logits, axis=-1, keepdims=True)
    shares = jnp.exp(z)
    total = jnp.sum(shares, axis=-1)
    places = jnp.arange(targets.shape[0])
    hits = (jnp.argmax(logits, axis=-1) == targets).astype(logits.dtype)
    facts = jnp.stack([z[places, targets], total, jnp.sum(z * shares, axis=-1), hits], axis=1)
    return facts, (shares * (weights / total)[:, None]).at[places, targets].add(-weights)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, scale: float) -> jax.Array:
    """Causal attention within segments by the kernels, which `own_kernels` must allow.

    q (B, T, heads, D), k and v (B, T, kv_heads, D), segments (B, T) int32; keeps only those for the gradient.
    """
    return training_attention.attend(q, k, v, segments, scale=scale)


_Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def _attention_forward(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, scale: float
) -> tuple[jax.Array, _Saved]:
    return training_attention.attend(q, k, v, segments, scale=scale), (q, k, v, segments)


def _attention_backward(
    scale: float, saved: _Saved, mixed: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, np.ndarray]:
    q, k, v, segments = saved
    gradients = training_attention.attend_gradient(q, k, v, segments, mixed, scale=scale)
    return *gradients, np.zeros(segments.shape, jax.dtypes.float0)


attention.defvjp(_attention_forward, _attention_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """x (..., size) divided by its root mean square over the last axis, times scale (size,).

    Only x and scale are kept for the gradient.
    """
    return x * _inverse_size(x, eps) * scale


def _inverse_size(x: jax.Array, eps: float) -> jax.Array:
    return jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + jnp.asarray(eps, x.dtype))


def _rms_norm_forward(
    x: jax.Array, scale: jax.Array, eps: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    if own_kernels(x, scale):
        flat = x.reshape(-1, x.shape[-1])
        return training_norms.rms_norm(flat, scale, eps).reshape(x.shape), (x, scale)
    return rms_norm(x, scale, eps), (x, scale)


def _rms_norm_backward(
    eps: float, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, scale = saved
    if own_kernels(x, scale, dy):
        rows, slopes = (each.reshape(-1, x.shape[-1]) for each in (x, dy))
        at_x, at_scale = training_norms.rms_norm_gradient(rows, scale, slopes, eps)
        return at_x.reshape(x.shape), at_scale
    inverse = _inverse_size(x, eps)
    scaled = dy * scale
    along = jnp.mean(scaled * x, axis=-1, keepdims=True) * inverse**3
    return scaled * inverse - x * along, jnp.sum(dy * x * inverse, axis=tuple(range(x.ndim - 1)))


rms_norm.defvjp(_rms_norm_forward, _rms_norm_backward)


@jax.custom_vjp
def silu_gate(gate: jax.Array, up: jax.Array) -> jax.Array:
    """silu(gate) times up, both (rows, columns); only the two are kept for the gradient."""
    return jax.nn.silu(gate) * up


def _silu_gate_forward(gate: jax.Array, up: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    gated = training_gates.silu_gate(gate, up) if own_kernels(gate, up) else silu_gate(gate, up)
    return gated, (gate, up)


def _silu_gate_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    gate, up = saved
    if own_kernels(gate, up, dy):
        return training_gates.silu_gate_gradient(gate, up, dy)
    sigmoid = jax.nn.sigmoid(gate)
    return dy * up * sigmoid * (1 + gate * (1 - sigmoid)), dy * gate * sigmoid


silu_gate.defvjp(_silu_gate_forward, _silu_gate_backward)
