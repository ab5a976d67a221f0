"""Rotary positions, in the half-split layout of Hugging Face's Llama."""

import jax
import jax.numpy as jnp

from tunix_rt.lm.rope_scaling import RopeScaling, scaled_frequencies


def rotary_table(
    positions: jax.Array, head_dim: int, *, theta: float, scaling: RopeScaling | None = None
) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of every position's angles, each (*positions.shape, head_dim / 2), float32."""
    if scaling is not None:
        frequencies = jnp.asarray(scaled_frequencies(head_dim, theta, scaling), jnp.float32)
        angles = positions.astype(jnp.float32)[..., None] * frequencies
        size = jnp.float32(scaling.attention_factor)
        return jnp.cos(angles) * size, jnp.sin(angles) * size
    exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
    angles = positions.astype(jnp.float32)[..., None] / jnp.power(jnp.float32(theta), exponents)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(heads: jax.Array, table: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turn (..., heads, head_dim) by a table of (..., head_dim / 2), in float32; the type is kept."""
    cos, sin = (part[..., None, :] for part in table)
    first, second = jnp.split(heads.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(heads.dtype)
