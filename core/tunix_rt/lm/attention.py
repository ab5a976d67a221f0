"""Attention over whole sequences and over a cache, for grouped query heads."""

import jax
import jax.numpy as jnp

from tunix_rt.lm import training_ops

_BLOCK = 128
_NEVER = jnp.float32(-1e30)


def causal_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, *, segments: jax.Array, after: jax.Array | None = None
) -> jax.Array:
    """Attend to earlier tokens of the same segment, and of the segment that it comes after.

    q (B, T, heads, D), k and v (B, T, kv_heads, D), segments and after (B, T), where -1 stands for no
    segment; returns (B, T, heads, D). On the CPU, kernels of our own do what they can.
    """
    if after is None and training_ops.own_kernels(q, k, v):
        return training_ops.attention(q, k, v, segments.astype(jnp.int32), q.shape[-1] ** -0.5)
    return plain_attention(q, k, v, segments=segments, after=after)


def plain_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, *, segments: jax.Array, after: jax.Array | None = None
) -> jax.Array:
    """The same as XLA computes it.

    Queries go in blocks, so that keys after a block are never computed, and the query heads that
    share a kv head form one matrix product: both are what makes it fast on a CPU.
    """
    batch, length, num_heads, head_dim = q.shape
    kv_heads = k.shape[2]
    group = num_heads // kv_heads
    keys = jnp.swapaxes(k, 1, 2)  # (B, K, T, D)
    values = jnp.swapaxes(v, 1, 2)
    grouped = jnp.transpose(q.reshape(batch, length, kv_heads, group, head_dim), (0, 2, 3, 1, 4))
    grouped = grouped * jnp.asarray(head_dim**-0.5, q.dtype)  # (B, K, G, T, D)
    blocks = []
    for start in range(0, length, _BLOCK):
        stop = min(start + _BLOCK, length)
        allowed = jnp.arange(start, stop)[:, None] >= jnp.arange(stop)[None, :]
        related = segments[:, start:stop, None] == segments[:, None, :stop]  # (B, t, T')
        if after is not None:
            related = related | (after[:, start:stop, None] == segments[:, None, :stop])
        allowed = allowed & related
        blocks.append(_attend(grouped[:, :, :, start:stop], keys[:, :, :stop], values[:, :, :stop], allowed))
    mixed = jnp.concatenate(blocks, axis=3) if len(blocks) > 1 else blocks[0]
    return jnp.transpose(mixed, (0, 3, 1, 2, 4)).reshape(q.shape)


def _attend(q: jax.Array, k: jax.Array, v: jax.Array, allowed: jax.Array) -> jax.Array:
    batch, kv_heads, group, length, head_dim = q.shape
    rows = q.reshape(batch, kv_heads, group * length, head_dim)
    scores = jnp.einsum("bkqd,bksd->bkqs", rows, k).reshape(batch, kv_heads, group, length, k.shape[2])
    scores = jnp.where(allowed[:, None, None], scores.astype(jnp.float32), _NEVER)
    weights = jax.nn.softmax(scores, axis=-1).reshape(batch, kv_heads, group * length, k.shape[2])
    weights = weights.astype(v.dtype)
    return jnp.einsum("bkqs,bksd->bkqd", weights, v).reshape(q.shape)


def cached_attention(q: jax.Array, keys: jax.Array, values: jax.Array, *, lengths: jax.Array) -> jax.Array:
    """Attend from one query a row to the first `lengths` entries of its cache.

    q (B, heads, D), keys (B, kv_heads, D, S), values (B, kv_heads, S, D), lengths (B,); returns
    (B, heads, D). With the places last, scores are sums of whole rows of keys: on a CPU that takes
    two thirds of the time of keys laid out like the values.
    """
    batch, num_heads, head_dim = q.shape
    kv_heads, capacity = keys.shape[1], keys.shape[3]
    grouped = q.reshape(batch, kv_heads, num_heads // kv_heads, head_dim) * jnp.float32(head_dim**-0.5)
    scores = jnp.einsum("bkgd,bkds->bkgs", grouped, keys)
    visible = jnp.arange(capacity)[None, :] < lengths[:, None]
    weights = jax.nn.softmax(jnp.where(visible[:, None, None], scores, _NEVER), axis=-1)
    return jnp.einsum("bkgs,bksd->bkgd", weights, values).reshape(q.shape)
