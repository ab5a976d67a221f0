"""The kernels of training against numpy's products and XLA's attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tunix_rt.lm.attention import plain_attention
from tunix_rt.lm.kernels.training_products import forward, input_gradient, weight_gradient
from tunix_rt.lm.training_ops import attention, linear, rms_norm, silu_gate

SHAPES = [
    (1, 1, 1),
    (3, 5, 7),
    (12, 32, 16),
    (13, 33, 17),
    (12, 32, 640),
    (29, 400, 1300),
    (600, 770, 90),
]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def check_product(made: jax.Array, left: np.ndarray, right: np.ndarray) -> None:
    """Within the bound of rounding after each step of a sum (Higham 2002, section 3.1)."""
    exact = left.astype(np.float64) @ right.astype(np.float64)
    bound = left.shape[1] * 2.0**-24 * (np.abs(left).astype(np.float64) @ np.abs(right))
    assert np.all(np.abs(made - exact) <= 1.01 * bound)


@pytest.mark.parametrize(("rows", "outputs", "inputs"), SHAPES)
def test_the_product_of_any_shape_equals_numpys(rows: int, outputs: int, inputs: int) -> None:
    x, weight = numbers(rows, inputs), numbers(outputs, inputs, seed=1)
    check_product(forward(jnp.asarray(x), jnp.asarray(weight)), x, weight.T)


@pytest.mark.parametrize(("rows", "outputs", "inputs"), SHAPES)
def test_the_gradient_at_the_input_equals_numpys(rows: int, outputs: int, inputs: int) -> None:
    dy, weight = numbers(rows, outputs), numbers(outputs, inputs, seed=1)
    check_product(input_gradient(jnp.asarray(dy), jnp.asarray(weight)), dy, weight)


@pytest.mark.parametrize(("rows", "outputs", "inputs"), SHAPES)
def test_the_gradient_at_the_matrix_equals_numpys(rows: int, outputs: int, inputs: int) -> None:
    dy, x = numbers(rows, outputs), numbers(rows, inputs, seed=1)
    check_product(weight_gradient(jnp.asarray(dy), jnp.asarray(x)), dy.T, x)


def test_repeated_products_are_the_same_bit_for_bit() -> None:
    x, weight = jnp.asarray(numbers(300, 700)), jnp.asarray(numbers(500, 700, seed=1))
    first = np.asarray(forward(x, weight))
    for _ in range(5):
        np.testing.assert_array_equal(forward(x, weight), first)


def test_a_linear_maps_gradients_are_those_of_the_plain_product() -> None:
    x, weight, dy = (jnp.asarray(numbers(*shape)) for shape in ((40, 30), (20, 30), (40, 20)))
    made = jax.jit(jax.grad(lambda x, w: jnp.sum(linear(x, w) * dy), (0, 1)))(x, weight)
    expected = jax.jit(jax.grad(lambda x, w: jnp.sum((x @ w.T) * dy), (0, 1)))(x, weight)
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_a_product_is_not_finite_where_its_input_is_not() -> None:
    x = numbers(20, 40)
    x[7, 3] = np.nan
    made = np.asarray(forward(jnp.asarray(x), jnp.asarray(numbers(50, 40))))
    assert np.isnan(made[7]).all()
    assert np.isfinite(np.delete(made, 7, axis=0)).all()


def segments_of(kind: str, length: int) -> np.ndarray:
    """Two rows of segments."""
    if kind == "one":
        return np.ones((2, length), np.int32)
    if kind == "packed":
        one = np.repeat([1, 2, 3, 0], [length // 3, length // 4, length // 3, length])[:length]
        return np.stack([one, np.repeat([1, 2], [length // 2, length])[:length]]).astype(np.int32)
    if kind == "shared":
        starts, thirds = (length // 5, length // 2), (length // 3, length // 4, length)
        rows = [np.repeat([-1, 1, 2, 0], [start, *thirds])[:length] for start in starts]
        return np.stack(rows).astype(np.int32)
    return np.random.default_rng(0).integers(0, 3, (2, length)).astype(np.int32)


def slow_attention(q, k, v, segments, mixed):
    """Attention and the gradients at q, k and v, one head after the other, in float64."""
    made, dq, dk, dv = (np.zeros(each.shape) for each in (q, q, k, v))
    size, group = q.shape[3], q.shape[2] // k.shape[2]
    for row, head in np.ndindex(q.shape[0], q.shape[2]):
        shared = head // group
        own_q, own_k, own_v, own_mixed = (
            part[row, :, index].astype(np.float64)
            for part, index in ((q, head), (k, shared), (v, shared), (mixed, head))
        )
        scores = own_q @ own_k.T / np.sqrt(size)
        query, key = segments[row][:, None], segments[row][None, :]
        seen = np.tri(q.shape[1], dtype=bool) & ((query == key) | ((query > 0) & (key < 0)))
        weights = np.where(seen, np.exp(scores - scores.max(1, keepdims=True)), 0)
        weights /= weights.sum(1, keepdims=True)
        made[row, :, head] = weights @ own_v
        slopes = own_mixed @ own_v.T
        slopes = weights * (slopes - (weights * slopes).sum(1, keepdims=True)) / np.sqrt(size)
        dq[row, :, head] = slopes @ own_k
        dk[row, :, shared] += slopes.T @ own_q
        dv[row, :, shared] += weights.T @ own_mixed
    return made, dq, dk, dv


HEADS = [(1, 1, 1, 8), (5, 2, 1, 4), (96, 4, 2, 16), (103, 6, 2, 16), (250, 3, 3, 20), (250, 4, 1, 64)]


@pytest.mark.parametrize("kind", ["one", "packed", "mixed", "shared"])
@pytest.mark.parametrize(("length", "queries", "shared", "size"), HEADS)
def test_attention_and_its_gradients_equal_the_formula(length, queries, shared, size, kind):
    q, k, v, mixed = (
        numbers(2, length, count, size, seed=seed)
        for seed, count in enumerate((queries, shared, shared, queries))
    )
    segments = segments_of(kind, length)

    @jax.jit
    def ours(q, k, v, mixed):
        made, back = jax.vjp(lambda *given: attention(*given, segments, size**-0.5), q, k, v)
        return made, *back(mixed)

    expected = slow_attention(q, k, v, segments, mixed)
    for one, other in zip(ours(q, k, v, mixed), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("kind", ["packed", "shared"])
def test_attention_by_xla_equals_the_kernels(kind):
    q, k, v = (jnp.asarray(numbers(2, 40, count, 8, seed=count)) for count in (4, 2, 2))
    segments = jnp.asarray(segments_of(kind, 40))
    plain = jax.jit(plain_attention)(q, k, v, segments=segments)
    np.testing.assert_allclose(attention(q, k, v, segments, 8**-0.5), plain, atol=2e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 96), (70, 300)])
def test_a_gate_and_its_gradients_equal_the_formula(shape):
    gate, up, dy = (numbers(*shape, seed=seed) for seed in range(3))
    gate *= np.float32(20)
    gate.flat[0] = -200.0
    sigmoid = 1 / (1 + np.exp(-gate.astype(np.float64)))

    @jax.jit
    def ours(gate, up, dy):
        made, back = jax.vjp(silu_gate, gate, up)
        return made, *back(dy)

    expected = (
        gate * sigmoid * up,
        dy * up * sigmoid * (1 + gate * (1 - sigmoid)),
        dy * gate * sigmoid,
    )
    for one, other in zip(ours(gate, up, dy), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=2e-6)


def test_a_gate_is_not_finite_where_its_input_is_not():
    gate = numbers(4, 20)
    gate[1, 3] = np.nan
    made = np.asarray(jax.jit(lambda each: jax.vjp(silu_gate, each, each)[0])(gate))
    assert np.argwhere(np.isnan(made)).tolist() == [[1, 3]]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (65, 96), (2, 130, 33)])
def test_a_norm_and_its_gradients_equal_the_formula(shape):
    x, dy = (numbers(*shape, seed=seed) for seed in range(2))
    scale = numbers(shape[-1], seed=2)

    @jax.jit
    def ours(x, scale, dy):
        made, back = jax.vjp(lambda *given: rms_norm(*given, 1e-5), x, scale)
        return made, *back(dy)

    wide = x.astype(np.float64)
    inverse = 1 / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5)
    along = (dy * scale * wide).mean(-1, keepdims=True) * inverse**3
    expected = (
        wide * inverse * scale,
        dy * scale * inverse - wide * along,
        (dy * wide * inverse).reshape(-1, shape[-1]).sum(0),
    )
    for one, other in zip(ours(x, scale, dy), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-5)
