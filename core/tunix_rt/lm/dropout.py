"""Dropping inputs by keys of rows, so that a row's mask is the same in every batch that it is part of."""

import jax
import jax.numpy as jnp
from flax import nnx


class DropoutKeys(nnx.Variable[jax.Array]):
    """The keys (rows, 2) by which a projection drops inputs of its adapter; no parameter."""


def fold_keys(keys: jax.Array, number: int) -> jax.Array:
    """Keys (rows, 2) that depend on a number too."""

    def fold(key: jax.Array) -> jax.Array:
        return jax.random.key_data(jax.random.fold_in(jax.random.wrap_key_data(key), number))

    return jax.vmap(fold)(keys)


def drop(x: jax.Array, keys: jax.Array, rate: float) -> jax.Array:
    """Set a share of x (rows * length, inputs) to 0 and scale the others by 1 / (1 - rate).

    As in Srivastava et al. 2014. A row's mask depends on its key, its length and the inputs alone.
    """
    shape = (x.shape[0] // keys.shape[0], x.shape[1])

    def mask(key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.wrap_key_data(key), 1.0 - rate, shape)

    kept = jax.vmap(mask)(keys).reshape(x.shape)
    return jnp.where(kept, x / (1.0 - rate), 0.0).astype(x.dtype)
