"""The CPU kernels against plain JAX, and their results' independence of company and threads."""

import re
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tunix_rt.lm.attention import cached_attention
from tunix_rt.lm.kernels.attention import append_and_attend
from tunix_rt.lm.kernels.likeliest import likeliest
from tunix_rt.lm.kernels.matmul import tiled_matmul

INPUTS = 90
HEADER = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"


def tiles_of(matrix: np.ndarray) -> np.ndarray:
    """(outputs, inputs) as (outputs / 16, inputs, 16)."""
    return matrix.reshape(-1, 16, matrix.shape[1]).transpose(0, 2, 1).copy()


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def used_rows(count: int, order: Sequence[int]) -> jax.Array:
    """A number of rows and all rows, of which the first ones are used."""
    return jnp.asarray([count, *order], jnp.int32)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 8, 9, 12, 13, 32, 61])
@pytest.mark.parametrize("outputs", [16, 48, 64, 592])
def test_a_product_equals_the_plain_one(rows: int, outputs: int) -> None:
    x, matrix = numbers(rows, INPUTS), numbers(outputs, INPUTS, seed=1)
    made = tiled_matmul(jnp.asarray(x), jnp.asarray(tiles_of(matrix)))
    exact = x.astype(np.float64) @ matrix.T.astype(np.float64)
    np.testing.assert_allclose(made, exact, rtol=0, atol=2e-5)


@pytest.mark.parametrize("rows", [1, 8, 29])
def test_an_int8_product_equals_that_of_the_restored_matrix(rows: int) -> None:
    x, scales = numbers(rows, INPUTS), np.abs(numbers(80, seed=2)) / 127
    matrix = np.random.default_rng(3).integers(-127, 128, (80, INPUTS)).astype(np.int8)
    made = tiled_matmul(jnp.asarray(x), jnp.asarray(tiles_of(matrix)), jnp.asarray(scales))
    exact = x.astype(np.float64) @ (matrix * scales[:, None].astype(np.float64)).T
    np.testing.assert_allclose(made, exact, rtol=0, atol=2e-5)


@pytest.mark.parametrize("rows", [2, 5, 12, 40])
def test_a_rows_product_does_not_depend_on_its_batch(rows: int) -> None:
    x, matrix = jnp.asarray(numbers(rows, 576)), jnp.asarray(tiles_of(numbers(1536, 576, seed=1)))
    together = np.asarray(tiled_matmul(x, matrix))
    for row in range(rows):
        np.testing.assert_array_equal(tiled_matmul(x[row : row + 1], matrix)[0], together[row])


@pytest.mark.parametrize("count", [0, 1, 5, 8, 9, 13, 25, 29])
@pytest.mark.parametrize("outputs", [48, 80])
def test_only_used_rows_are_computed_and_they_are_as_ever(count: int, outputs: int) -> None:
    x, matrix = jnp.asarray(numbers(29, INPUTS)), jnp.asarray(tiles_of(numbers(outputs, INPUTS, seed=1)))
    order = np.random.default_rng(4).permutation(29)
    made = np.asarray(tiled_matmul(x, matrix, used=used_rows(count, order)))
    whole = np.asarray(tiled_matmul(x, matrix))
    np.testing.assert_array_equal(made[order[:count]], whole[order[:count]])
    np.testing.assert_array_equal(made[order[count:]], 0)


def test_attention_leaves_rows_that_are_not_used_alone() -> None:
    q, k = jnp.asarray(numbers(4, 2, 16)), jnp.asarray(numbers(4, 2, 16, seed=1))
    cache = jnp.asarray(numbers(4, 2, 16, 64, seed=2)), jnp.asarray(numbers(4, 2, 64, 16, seed=3))
    lengths, order = jnp.asarray([3, 40, 17, 63], jnp.int32), [2, 0, 3, 1]
    whole, whole_cache = append_and_attend(q, k, k, cache, lengths)
    made, made_cache = append_and_attend(q, k, k, cache, lengths, used_rows(2, order))
    np.testing.assert_array_equal(made[jnp.asarray([2, 0])], whole[jnp.asarray([2, 0])])
    np.testing.assert_array_equal(made[jnp.asarray([3, 1])], 0)
    for part in range(2):
        np.testing.assert_array_equal(made_cache[part][2], whole_cache[part][2])
        np.testing.assert_array_equal(made_cache[part][1], cache[part][1])


@pytest.mark.parametrize("width", [16, 17, 31, 300])
def test_the_likeliest_is_the_first_of_the_highest(width: int) -> None:
    scores = np.random.default_rng(5).integers(-3, 3, (9, width)).astype(np.float32)
    np.testing.assert_array_equal(likeliest(jnp.asarray(scores)), scores.argmax(axis=1))


def test_rows_that_are_not_used_have_no_likeliest_place() -> None:
    scores = jnp.asarray(numbers(3, 64)).at[:, 9].set(8.0)
    assert likeliest(scores, used_rows(1, [2, 0, 1])).tolist() == [0, 0, 9]


def test_many_calls_at_once_end_and_agree() -> None:
    x, matrix = jnp.asarray(numbers(8, 256)), jnp.asarray(tiles_of(numbers(256, 256, seed=1)))

    @jax.jit
    def branches(x: jax.Array) -> list[jax.Array]:
        return [tiled_matmul(x + index, matrix) for index in range(64)]

    for _ in range(5):
        for index, made in enumerate(branches(x)):
            np.testing.assert_array_equal(made, tiled_matmul(x + index, matrix))


@pytest.mark.parametrize("group,head_dim", [(1, 16), (3, 64), (2, 32)])
@pytest.mark.parametrize("capacity", [16, 128])
def test_attention_equals_the_plain_one(group: int, head_dim: int, capacity: int) -> None:
    batch, kv_heads = 5, 2
    q = jnp.asarray(3 * numbers(batch, kv_heads * group, head_dim))
    k, v = (jnp.asarray(numbers(batch, kv_heads, head_dim, seed=seed)) for seed in (1, 2))
    keys = jnp.asarray(numbers(batch, kv_heads, head_dim, capacity, seed=3))
    values = jnp.asarray(numbers(batch, kv_heads, capacity, head_dim, seed=4))
    lengths = jnp.asarray([0, 1, 7, capacity - 2, capacity - 1], jnp.int32)
    rows = jnp.arange(batch)
    wanted_keys = keys.at[rows, :, :, lengths].set(k)
    wanted_values = values.at[rows, :, lengths].set(v)
    wanted = cached_attention(q, wanted_keys, wanted_values, lengths=lengths + 1)
    made, (made_keys, made_values) = append_and_attend(q, k, v, (keys, values), lengths)
    np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(made_keys, wanted_keys)
    np.testing.assert_array_equal(made_values, wanted_values)


def test_a_token_past_the_capacity_is_not_written() -> None:
    q, k = jnp.asarray(numbers(1, 2, 16)), jnp.asarray(numbers(1, 2, 16, seed=1))
    keys, values = jnp.asarray(numbers(1, 2, 16, 32, seed=2)), jnp.asarray(numbers(1, 2, 32, 16, seed=3))
    full = jnp.asarray([32], jnp.int32)
    made, cache = append_and_attend(q, k, k, (keys, values), full)
    np.testing.assert_array_equal(cache[0], keys)
    np.testing.assert_array_equal(cache[1], values)
    np.testing.assert_allclose(made, cached_attention(q, keys, values, lengths=full), rtol=0, atol=1e-5)


def test_extreme_scores_stay_finite() -> None:
    q = jnp.asarray(1e4 * numbers(1, 1, 16))
    keys, values = jnp.asarray(numbers(1, 1, 16, 32, seed=2)), jnp.asarray(numbers(1, 1, 32, 16, seed=3))
    zero = jnp.zeros((1, 1, 16))
    made, cache = append_and_attend(q, zero, zero, (keys, values), jnp.asarray([20], jnp.int32))
    wanted = cached_attention(q, *cache, lengths=jnp.asarray([21], jnp.int32))
    np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-5)


def test_the_calling_convention_is_the_one_of_the_installed_jaxlib() -> None:
    header = HEADER.read_text()
    assert "#define XLA_FFI_API_MAJOR 0" in header
    table = header[header.index("struct XLA_FFI_Api {") :]
    functions = re.findall(r"_XLA_FFI_API_STRUCT_FIELD\(XLA_FFI_(\w+)\)", table)
    assert functions[11:13] == ["ThreadPool_Schedule", "ThreadPool_NumThreads"]  # at 48 + 8 * 11 bytes
    frame = header[header.index("struct XLA_FFI_CallFrame {") :]
    fields = re.findall(r"\b(\w+);", frame[: frame.index("};")])
    assert fields[:8] == ["struct_size", "extension_start", "api", "ctx", "stage", "args", "rets", "attrs"]
