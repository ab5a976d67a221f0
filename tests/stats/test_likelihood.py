"""Perplexity and its interval, against the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunix_rt.stats.likelihood import bits_per_byte, mean_probability, perplexity


def test_perplexity_is_over_all_tokens() -> None:
    found = perplexity([-3.0, -9.0], [3, 3], seed=0)
    assert found.value == pytest.approx(math.exp(2))


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary() -> None:
    counts = [3, 8, 1]
    found = perplexity([-count * math.log(50) for count in counts], counts, seed=0)
    assert (found.value, found.low, found.high) == pytest.approx((50, 50, 50))


def test_the_interval_is_that_of_resampled_ratios() -> None:
    draws = np.random.default_rng(5)
    counts = draws.integers(1, 40, 60)
    values = -counts * draws.uniform(0.5, 3, 60)
    found = perplexity(values.tolist(), counts.tolist(), seed=1)
    slow = np.random.default_rng(9)
    ratios = []
    for _ in range(20_000):
        chosen = slow.integers(0, 60, 60)
        ratios.append(math.exp(-values[chosen].sum() / counts[chosen].sum()))
    assert found.low == pytest.approx(np.quantile(ratios, 0.025), rel=0.01)
    assert found.high == pytest.approx(np.quantile(ratios, 0.975), rel=0.01)


def test_the_same_seed_gives_the_same_interval() -> None:
    values, counts = [-3.0, -9.0, -1.0], [3, 3, 2]
    assert perplexity(values, counts, seed=4) == perplexity(values, counts, seed=4)


def test_a_perplexity_beyond_all_floats_is_infinite() -> None:
    assert perplexity([-1000.0], [1], seed=0).value == math.inf


@pytest.mark.parametrize(
    ("values", "counts"), [([], []), ([-1.0], [0]), ([math.nan], [1]), ([-1.0, -2.0], [1])]
)
def test_what_has_no_perplexity_is_refused(values: list[float], counts: list[int]) -> None:
    with pytest.raises(ValueError, match=r"no values|no tokens|NaN"):
        perplexity(values, counts, seed=0)


def test_eight_bits_a_byte_are_a_guess_among_all_bytes() -> None:
    assert bits_per_byte(5 * math.log(1 / 256), 5) == pytest.approx(8)


def test_the_mean_probability_is_geometric() -> None:
    assert mean_probability(math.log(0.5) + math.log(0.125), 2) == pytest.approx(0.25)
