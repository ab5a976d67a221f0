import jax
import jax.numpy as jnp
import numpy as np

from tunix_rt.lm.attention import cached_attention


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
