"""Attention over whole sequences and over a cache, for grouped query heads."""

import jax
import jax.numpy as jnp

from tunix_rt.lm import training_ops

_BLOCK = 128
_NEVER = jnp.float32(-1e30)


def causal_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    segments: jax.Array,
    after: jax.Array | None = None,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    positions: jax.Array | None = None,
) -> jax.Array:
    """Attend to earlier tokens of the same segment, and of the segment that it comes after.

    q (B, T, heads, D), k and v (B, T, kv_heads, D), segments and after (B, T), where -1 in `after` stands for
    no segment; returns (B, T, heads, D). Segment 0 is padding. A row may begin with a segment below 0: those
    above 0 see it, too. Scores are multiplied by `scale`, by default D^-1/2, and capped by `softcap`.
    With a `window`, a token sees the tokens of fewer than so many `positions` (B, T) before it.
    On the CPU, kernels of our own do what they can.
    """
    if after is None and window is None and softcap is None and training_ops.own_kernels(q, k, v):
        size = q.shape[-1] ** -0.5 if scale is None else scale
        return training_ops.attention(q, k, v, segments.astype(jnp.int32), size)
    return plain_attention(
        q,
        k,
        v,
        segments=segments,
        after=after,
        scale=scale,
        window=window,
        softcap=softcap,
        positions=positions,
    )


def plain_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    segments: jax.Array,
    after: jax.Array | None = None,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    positions: jax.Array | None = None,
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
    grouped = grouped * _scale(scale, q)  # (B, K, G, T, D)
    blocks = []
    for start in range(0, length, _BLOCK):
        stop = min(start + _BLOCK, length)
        allowed = jnp.arange(start, stop)[:, None] >= jnp.arange(stop)[None, :]
        own, others = segments[:, start:stop, None], segments[:, None, :stop]
        related = (own == others) | ((own > 0) & (others < 0))  # (B, t, T')
        if after is not None:
            related = related | (after[:, start:stop, None] == segments[:, None, :stop])
        allowed = allowed & related
        if window is not None:
            assert positions is not None
            allowed = allowed & (positions[:, start:stop, None] - positions[:, None, :stop] < window)
        parts = (grouped[:, :, :, start:stop], keys[:, :, :stop], values[:, :, :stop])
        blocks.append(_attend(*parts, allowed, softcap))
    mixed = jnp.concatenate(blocks, axis=3) if len(blocks) > 1 else blocks[0]
    return jnp.transpose(mixed, (0, 3, 1, 2, 4)).reshape(q.shape)


def _attend(q: jax.Array, k: jax.Array, v: jax.Array, allowed: jax.Array, softcap: float | None) -> jax.Array:
    batch, kv_heads, group, length, head_dim = q.shape
    rows = q.reshape(batch, kv_heads, group * length, head_dim)
    scores = jnp.einsum("bkqd,bksd->bkqs", rows, k).reshape(batch, kv_heads, group, length, k.shape[2])
    scores = jnp.where(allowed[:, None, None], _capped(scores, softcap), _NEVER)
    weights = jax.nn.softmax(scores, axis=-1).reshape(batch, kv_heads, group * length, k.shape[2])
    weights = weights.astype(v.dtype)
    return jnp.einsum("bkqs,bksd->bkqd", weights, v).reshape(q.shape)


def cached_attention(
    q: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    *,
    lengths: jax.Array,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> jax.Array:
    """Attend from one query a row to the first `lengths` entries of its cache, or the last `window` of them.

    q (B, heads, D), keys (B, kv_heads, D, S), values (B, kv_heads, S, D), lengths (B,); returns
    (B, heads, D). With the places last, scores are sums of whole rows of keys: on a CPU that takes
    two thirds of the time of keys laid out like the values.
    """
    batch, num_heads, head_dim = q.shape
    kv_heads, capacity = keys.shape[1], keys.shape[3]
    grouped = q.reshape(batch, kv_heads, num_heads // kv_heads, head_dim) * _scale(scale, q)
    scores = _capped(jnp.einsum("bkgd,bkds->bkgs", grouped, keys), softcap)
    places = jnp.arange(capacity)[None, :]
    visible = places < lengths[:, None]
    if window is not None:
        visible = visible & (places >= lengths[:, None] - window)
    weights = jax.nn.softmax(jnp.where(visible[:, None, None], scores, _NEVER), axis=-1)
    return jnp.einsum("bkgs,bksd->bkgd", weights.astype(values.dtype), values).reshape(q.shape)


def capped(values: jax.Array, softcap: float | None) -> jax.Array:
    """c tanh(x / c), which stays within the soft-cap c, in float32 and cast back; without one the values."""
    if softcap is None:
        return values
    size = jnp.float32(softcap)
    bounded: jax.Array = size * jnp.tanh(values.astype(jnp.float32) / size)
    return bounded.astype(values.dtype)


def _capped(scores: jax.Array, softcap: float | None) -> jax.Array:
    """Scores in float32, as the softmax needs them."""
    return capped(scores.astype(jnp.float32), softcap)


def _scale(scale: float | None, q: jax.Array) -> jax.Array:
    return jnp.asarray(q.shape[-1] ** -0.5 if scale is None else scale, q.dtype)
