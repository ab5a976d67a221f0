import numpy as np
import pytest
from scipy import stats

from tunix_rt.stats.intervals import Interval, bca_mean, bca_means, bootstrap_mean, wilson


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(
    ("successes", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (37, 100), (999, 1000), (1, 1)]
)
def test_wilson_equals_scipy(successes: int, n: int, confidence: float) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    interval = wilson(successes, n, confidence=confidence)
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, abs=1e-12)


def test_wilson_of_half_of_a_hundred() -> None:
    interval = wilson(50, 100)
    assert interval.low == pytest.approx(0.4038, abs=1e-4)
    assert interval.high == pytest.approx(0.5962, abs=1e-4)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 10), (11, 10)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="n must be positive"):
        wilson(successes, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_probability(confidence: float) -> None:
    with pytest.raises(ValueError, match="it must be between 0 and 1"):
        wilson(1, 2, confidence=confidence)


def test_bootstrap_agrees_with_scipy_percentile_bootstrap() -> None:
    values = np.random.default_rng(3).normal(1.0, 2.0, size=80)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(4)
    ).confidence_interval
    interval = bootstrap_mean(values.tolist(), seed=5, resamples=20_000)
    assert interval.low == pytest.approx(expected.low, abs=0.02)
    assert interval.high == pytest.approx(expected.high, abs=0.02)


def test_bootstrap_is_a_function_of_its_seed() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 0.5]
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1, resamples=101) != bootstrap_mean(values, seed=2, resamples=101)


def test_bootstrap_of_equal_values_has_no_width() -> None:
    assert bootstrap_mean([0.5] * 10, seed=0) == Interval(low=0.5, high=0.5)


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0, float("inf")]])
def test_bootstrap_refuses_values_without_a_mean(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no values were given|NaN or infinite"):
        bootstrap_mean(values, seed=0)


def test_bootstrap_refuses_too_few_resamples() -> None:
    with pytest.raises(ValueError, match="it must be at least 100"):
        bootstrap_mean([1.0], seed=0, resamples=10)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).exponential(size=50),
        np.array([1.0] * 3 + [0.0] * 37),
        np.array([0.25, 0.5, 1.0, 0.0, 1.0, 1.0, 0.75]),
    ],
    ids=["skewed", "rare", "graded"],
)
def test_bca_equals_scipy_on_the_same_draws(values: np.ndarray, confidence: float) -> None:
    expected = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=2_000,
        method="BCa",
        confidence_level=confidence,
        rng=np.random.default_rng(3),
    ).confidence_interval
    interval = bca_mean(values.tolist(), seed=3, confidence=confidence, resamples=2_000)
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, abs=1e-12)


def test_bca_counts_equal_sums_in_another_order_as_ties() -> None:
    thirds = bca_mean([1 / 3, 2 / 3, 0.0, 1.0] * 5, seed=1, resamples=999)
    whole = bca_mean([1.0, 2.0, 0.0, 3.0] * 5, seed=1, resamples=999)
    assert (thirds.low * 3, thirds.high * 3) == pytest.approx((whole.low, whole.high), abs=1e-9)


def test_bca_of_equal_values_has_no_width() -> None:
    assert bca_mean([0.5] * 10, seed=0) == Interval(low=0.5, high=0.5)


def test_bca_of_one_unusual_value_stays_within_the_values() -> None:
    interval = bca_mean([1.0] + [0.0] * 199, seed=0)
    assert 0 < 1 / 200 < interval.high < 0.05
    assert interval.low >= 0


def test_bca_refuses_too_few_resamples() -> None:
    with pytest.raises(ValueError, match="it must be at least 100"):
        bca_mean([1.0, 0.0], seed=0, resamples=10)


def test_samples_that_share_their_draws_have_the_intervals_of_each_alone() -> None:
    generator = np.random.default_rng(3)
    rows = [*(generator.integers(0, 5, size=300) / 4).reshape(5, 60).tolist(), [0.5] * 60]
    for row, found in zip(rows, bca_means(rows, seed=7), strict=True):
        alone = bca_mean(row, seed=7)
        assert found.low == pytest.approx(alone.low, abs=1e-12)
        assert found.high == pytest.approx(alone.high, abs=1e-12)


def test_samples_of_different_sizes_cannot_share_their_draws() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        bca_means([[0.0, 1.0], [0.5]], seed=1)
