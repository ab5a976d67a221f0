"""Operations of the decoder with their gradients: by kernels of our own on the CPU, by XLA elsewhere."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tunix_rt.lm.kernels import training_attention, training_products


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
