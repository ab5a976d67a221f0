import numpy as np
import pytest
from scipy import stats

from tunix_rt.stats.seeds import seed_spread, seed_variance, t_quantile, welch_interval


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 10, 30, 99, 400])
def test_t_quantile_equals_scipy(degrees: int, confidence: float) -> None:
    expected = stats.t.ppf(0.5 + confidence / 2, degrees)
    assert t_quantile(degrees, confidence) == pytest.approx(expected, rel=1e-9)


def test_seed_interval_equals_scipy() -> None:
    table = np.random.default_rng(1).random((4, 30))
    found = seed_variance(table.tolist(), confidence=0.9)
    means = table.mean(axis=1)
    low, high = stats.t.interval(0.9, df=3, loc=means.mean(), scale=stats.sem(means))
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), rel=1e-9)
    assert (found.seeds, found.mean) == (4, pytest.approx(means.mean()))
    assert found.variance == pytest.approx(np.var(means, ddof=1), rel=1e-12)


def test_chance_is_the_residual_mean_square_of_items_and_seeds() -> None:
    table = np.random.default_rng(2).random((3, 12))
    total = sum(
        (table[s, i] - table[s].mean() - table[:, i].mean() + table.mean()) ** 2
        for s in range(3)
        for i in range(12)
    )
    assert seed_variance(table.tolist()).chance == pytest.approx(total / (2 * 11) / 12, rel=1e-12)


def test_seeds_without_effect_vary_by_chance() -> None:
    generator = np.random.default_rng(3)
    rates = generator.random(50)
    found = [seed_variance((generator.random((5, 50)) < rates).astype(float).tolist()) for _ in range(600)]
    assert np.mean([one.variance / one.chance for one in found]) == pytest.approx(1.0, abs=0.1)


def test_equal_seeds_have_no_variance() -> None:
    found = seed_variance([[1.0, 0.0, 1.0]] * 3)
    assert (found.variance, found.chance) == (0.0, pytest.approx(0.0, abs=1e-30))
    assert (found.interval.low, found.interval.high) == (found.mean, found.mean)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[1.0, 0.0]], "at least two seeds"),
        ([[1.0, 0.0], [1.0]], r"the seeds have \[2, 1\] items"),
        ([[1.0], [0.0]], "there is 1 item"),
        ([], "at least two seeds"),
    ],
)
def test_too_little_is_refused(scores: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seed_variance(scores)


def test_t_needs_a_degree_of_freedom() -> None:
    with pytest.raises(ValueError, match="it must be at least 1"):
        t_quantile(0, 0.95)


def test_spread_of_means_equals_scipy() -> None:
    found = seed_spread([0.412, 0.431, 0.393])
    assert (found.seeds, found.mean, found.deviation) == (3, pytest.approx(0.412), pytest.approx(0.019))
    low, high = stats.t.interval(0.95, df=2, loc=0.412, scale=0.019 / 3**0.5)
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert found.chance_difference == pytest.approx(stats.t.ppf(0.975, 2) * 0.019 * 2**0.5)


def test_chance_difference_holds_two_further_runs_in_95_of_100_cases() -> None:
    draws = np.random.default_rng(4).normal(0.5, 0.02, size=(4_000, 5))
    held = [abs(row[3] - row[4]) <= seed_spread(row[:3].tolist()).chance_difference for row in draws]
    assert np.mean(held) == pytest.approx(0.95, abs=0.01)


def test_one_seed_has_no_spread() -> None:
    with pytest.raises(ValueError, match="at least two"):
        seed_spread([0.4])


def test_welch_interval_has_the_degrees_of_scipy_rounded_down() -> None:
    old, new = [0.412, 0.431, 0.393], [0.449, 0.452, 0.420, 0.463]
    test = stats.ttest_ind(new, old, equal_var=False)
    assert test.df == pytest.approx(4.3556, abs=1e-4)
    error = (np.mean(new) - np.mean(old)) / test.statistic
    low, high = stats.t.interval(0.95, df=4, loc=np.mean(new) - np.mean(old), scale=error)
    found = welch_interval(old, new)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high))


def test_welch_interval_against_a_constant_is_that_of_one_sample() -> None:
    new = [0.449, 0.452, 0.420, 0.463]
    low, high = stats.t.interval(0.95, df=3, loc=np.mean(new) - 0.4, scale=stats.sem(new))
    found = welch_interval([0.4], new)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high))


def test_welch_interval_needs_some_spread() -> None:
    assert welch_interval([0.4, 0.4], [0.5, 0.5]) is None
