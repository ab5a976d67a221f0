import jax
import jax.numpy as jnp
import numpy as np

from tunix_rt.lm.attention import cached_attention, causal_attention


def test_attention_to_a_cache_equals_the_formula() -> None:
    rng = np.random.default_rng(0)
    q = rng.standard_normal((3, 4, 8), np.float32)
    keys, values = (rng.standard_normal((3, 2, 20, 8), np.float32) for _ in range(2))
    lengths = np.array([1, 7, 20], np.int32)
    turned = jnp.asarray(keys.swapaxes(2, 3))
    mixed = jax.jit(cached_attention)(
        jnp.asarray(q), turned, jnp.asarray(values), lengths=jnp.asarray(lengths)
    )
    for row, head in np.ndindex(3, 4):
        seen = slice(lengths[row])
        shared = head // 2
        scores = keys[row, shared, seen].astype(np.float64) @ q[row, head] / np.sqrt(8)
        weights = np.exp(scores) / np.exp(scores).sum()
        expected = weights @ values[row, shared, seen]
        np.testing.assert_allclose(mixed[row, head], expected, rtol=2e-5, atol=2e-6)


def test_a_window_a_soft_cap_and_a_scale_follow_the_formula_across_blocks() -> None:
    rng = np.random.default_rng(1)
    q, k, v = (rng.standard_normal((1, 150, heads, 8), np.float32) for heads in (2, 1, 1))
    places = np.arange(150, dtype=np.int32)
    distance = places[:, None] - places[None, :]
    seen = (distance >= 0) & (distance < 40)
    made = causal_attention(
        *map(jnp.asarray, (q, k, v)),
        segments=jnp.ones((1, 150), jnp.int32),
        scale=0.7,
        window=40,
        softcap=2.0,
        positions=jnp.asarray(places)[None],
    )
    for head in range(2):
        scores = 2.0 * np.tanh(0.7 * q[0, :, head].astype(np.float64) @ k[0, :, 0].T / 2.0)
        weights = np.where(seen, np.exp(scores), 0.0)
        expected = weights / weights.sum(axis=1, keepdims=True) @ v[0, :, 0]
        np.testing.assert_allclose(made[0, :, head], expected, rtol=2e-5, atol=2e-6)
