from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tunix_rt.stats.paired import (
    compare,
    detectable_difference,
    holm,
    mcnemar_exact,
    minimum_detectable_difference,
    paired_bootstrap,
    sign_flip,
    verdict,
)


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (1, 0), (5, 5), (3, 10), (10, 3), (0, 8), (40, 21), (700, 610)]
)
def test_mcnemar_equals_the_binomial_test_of_scipy(gained: int, lost: int) -> None:
    expected = 1.0 if gained + lost == 0 else stats.binomtest(gained, gained + lost, 0.5).pvalue
    assert mcnemar_exact(gained, lost) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("gained", "lost"), [(2, 4), (6, 0), (3, 3)])
def test_mcnemar_equals_the_enumerated_flips(gained: int, lost: int) -> None:
    flips = gained + lost
    extreme = sum(
        1
        for pattern in product((0, 1), repeat=flips)
        if min(sum(pattern), flips - sum(pattern)) <= min(gained, lost)
    )
    assert mcnemar_exact(gained, lost) == pytest.approx(extreme / 2**flips, rel=1e-12)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_a_symmetric_probability(gained: int, lost: int) -> None:
    assert 0 < mcnemar_exact(gained, lost) == mcnemar_exact(lost, gained) <= 1


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="counts cannot be negative"):
        mcnemar_exact(-1, 3)


def test_sign_flip_of_few_differences_enumerates_all_patterns() -> None:
    differences = [0.5, -0.25, 1.0, 0.75, -0.1]
    observed = abs(sum(differences))
    hits = sum(
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True))) >= observed - 1e-12
        for signs in product((1, -1), repeat=5)
    )
    assert sign_flip(differences, seed=0) == pytest.approx(hits / 32)


def test_sign_flip_agrees_with_scipy_permutation_test() -> None:
    differences = np.random.default_rng(1).normal(0.25, 1.0, size=60)
    expected = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(2),
    ).pvalue
    assert sign_flip(differences.tolist(), seed=3, permutations=20_000) == pytest.approx(expected, abs=0.01)


def test_sign_flip_of_ones_equals_mcnemar() -> None:
    differences = [1.0] * 9 + [-1.0] * 2 + [0.0] * 30
    assert sign_flip(differences, seed=0) == pytest.approx(mcnemar_exact(9, 2))


def test_sign_flip_without_any_difference_is_one() -> None:
    assert sign_flip([0.0, 0.0], seed=0) == 1.0


def test_drawn_sign_flip_is_never_zero() -> None:
    differences = np.random.default_rng(0).random(200) + 0.5
    assert sign_flip(differences.tolist(), seed=0, permutations=999) == 1 / 1000


@pytest.mark.parametrize("q", [1, 3, 4, 64])
def test_sign_flip_of_sample_means_equals_all_sign_patterns(q: int) -> None:
    steps = np.random.default_rng(q).integers(-q, q + 1, size=12)
    hits = sum(
        abs(sum(sign * step for sign, step in zip(signs, steps, strict=True))) >= abs(steps.sum())
        for signs in product((1, -1), repeat=12)
    )
    assert sign_flip((steps / q).tolist(), seed=0) == pytest.approx(hits / 2**12, rel=1e-12)


@pytest.mark.parametrize(("gained", "lost"), [(30, 12), (400, 330), (50, 50)])
def test_sign_flip_of_many_ones_equals_mcnemar(gained: int, lost: int) -> None:
    found = sign_flip([1.0] * gained + [-1.0] * lost, seed=0)
    assert found == pytest.approx(mcnemar_exact(gained, lost), rel=1e-9)


def test_sign_flip_of_many_sample_means_comes_near_drawn_patterns() -> None:
    differences = np.random.default_rng(4).choice([-0.5, -0.25, 0.0, 0.25, 0.5, 0.75], size=150) * 0.5
    exact = sign_flip(differences.tolist(), seed=0)
    shaken = differences + np.random.default_rng(5).normal(0, 1e-6, size=150)  # on no grid: drawn
    assert sign_flip(shaken.tolist(), seed=1, permutations=20_000) == pytest.approx(exact, abs=0.015)


def test_paired_bootstrap_agrees_with_scipy() -> None:
    generator = np.random.default_rng(7)
    baseline = generator.random(50)
    candidate = baseline + generator.normal(0.1, 0.2, size=50)
    expected = stats.bootstrap(
        (candidate - baseline,),
        np.mean,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(8),
    ).confidence_interval
    interval = paired_bootstrap(baseline.tolist(), candidate.tolist(), seed=9, resamples=20_000)
    assert interval.low == pytest.approx(expected.low, abs=0.005)
    assert interval.high == pytest.approx(expected.high, abs=0.005)


def test_paired_bootstrap_refuses_unpaired_scores() -> None:
    with pytest.raises(ValueError, match="baseline has 1 items and candidate 2"):
        paired_bootstrap([1.0], [1.0, 0.0], seed=0)


def exact_power(n: int, discordance: float, difference: float, alpha: float) -> float:
    """Power of the exact test, by enumeration of the flips and of their directions."""
    gain_share = (discordance + difference) / (2 * discordance)
    power = 0.0
    for flips in range(n + 1):
        rejected = sum(
            comb(flips, gained) * gain_share**gained * (1 - gain_share) ** (flips - gained)
            for gained in range(flips + 1)
            if mcnemar_exact(gained, flips - gained) < alpha
        )
        power += float(stats.binom.pmf(flips, n, discordance)) * rejected
    return power


@pytest.mark.parametrize(("n", "discordance"), [(100, 0.3), (150, 0.4)])
def test_the_detectable_difference_is_detected_with_about_that_power(n: int, discordance: float) -> None:
    difference = minimum_detectable_difference(n, discordance)
    assert exact_power(n, discordance, difference, 0.05) == pytest.approx(0.8, abs=0.07)


def test_the_detectable_difference_solves_its_formula() -> None:
    d = minimum_detectable_difference(400, 0.3)
    spread = stats.norm.ppf(0.975) * 0.3**0.5 + stats.norm.ppf(0.8) * (0.3 - d * d) ** 0.5
    assert spread**2 / d**2 == pytest.approx(400, rel=1e-6)


def test_more_items_show_smaller_differences() -> None:
    assert minimum_detectable_difference(400, 0.3) < minimum_detectable_difference(100, 0.3)


def test_too_few_items_show_no_difference() -> None:
    with pytest.raises(ValueError, match="10 items show no difference"):
        minimum_detectable_difference(10, 0.1)


@pytest.mark.parametrize(
    ("difference", "p_value", "expected"),
    [
        (0.1, 0.01, "better"),
        (-0.1, 0.01, "worse"),
        (0.1, 0.05, "no detectable difference"),
        (0.1, 0.5, "no detectable difference"),
        (0.0, 0.01, "no detectable difference"),
    ],
)
def test_verdict(difference: float, p_value: float, expected: str) -> None:
    assert verdict(difference, p_value) == expected


def test_comparison_of_right_and_wrong_scores() -> None:
    baseline = [0.0] * 12 + [1.0] * 8
    candidate = [1.0] * 11 + [0.0] + [1.0] * 7 + [0.0]
    result = compare(baseline, candidate, seed=0)
    assert (result.n, result.gained, result.lost, result.test) == (20, 11, 1, "mcnemar-exact")
    assert result.difference == pytest.approx(0.5)
    assert result.p_value == pytest.approx(2 * 13 / 4096)
    assert result.verdict == "better"
    assert result.interval.low > 0


def test_comparison_of_graded_scores_uses_the_sign_flip_test() -> None:
    result = compare([0.5, 0.25, 1.0], [0.5, 0.75, 1.0], seed=0)
    assert (result.test, result.p_value, result.verdict) == ("sign-flip", 1.0, "no detectable difference")


def test_a_system_does_not_differ_from_itself() -> None:
    scores = [1.0, 0.0, 1.0]
    result = compare(scores, scores, seed=0)
    assert (result.gained, result.lost, result.p_value) == (0, 0, 1.0)
    assert result.verdict == "no detectable difference"


def closed_test(p_values: list[float], index: int) -> float:
    """The adjusted p-value by the definition: the largest Bonferroni p of the subsets with this test."""
    return max(
        min(1.0, size * min(p_values[i] for i in subset))
        for size in range(1, len(p_values) + 1)
        for subset in combinations(range(len(p_values)), size)
        if index in subset
    )


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p_values: list[float]) -> None:
    expected = [closed_test(p_values, index) for index in range(len(p_values))]
    assert holm(p_values) == pytest.approx(expected)


def test_holm_of_four_tests() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match="each must be in"):
        holm([0.5, 1.5])


def detected_share(draw: np.ndarray, level: float = 0.05) -> float:
    """The share of rows of item differences whose mean the sign-flip test tells from 0."""
    return float(np.mean([sign_flip(row.tolist(), seed=0, permutations=999) < level for row in draw]))


def test_detectable_difference_of_right_and_wrong_is_that_of_the_discordance() -> None:
    baseline, candidate = [0.0] * 20 + [1.0] * 80, [1.0] * 14 + [0.0] * 6 + [0.0] * 12 + [1.0] * 68
    found = detectable_difference(baseline, candidate)
    assert found == pytest.approx(minimum_detectable_difference(100, 0.26))


def test_detectable_difference_of_graded_scores_is_detected_with_about_that_power() -> None:
    generator = np.random.default_rng(5)
    differences = generator.choice([-0.5, -0.25, 0.0, 0.25, 0.5], size=80)
    found = detectable_difference([0.5] * 80, (0.5 + differences).tolist())
    assert found is not None
    square = np.mean(differences**2)
    spread = stats.norm.ppf(0.975) * square**0.5 + stats.norm.ppf(0.8) * (square - found**2) ** 0.5
    assert spread / 80**0.5 == pytest.approx(found, rel=1e-9)
    draws = generator.normal(found, (square - found**2) ** 0.5, size=(300, 80))
    assert detected_share(draws) == pytest.approx(0.8, abs=0.07)


def test_detectable_difference_without_a_change_supposes_changes_one_way() -> None:
    scores = [1.0] * 50
    found = detectable_difference(scores, scores)
    assert found is not None
    spread = stats.norm.ppf(0.975) + stats.norm.ppf(0.8) * (1 - found) ** 0.5
    assert spread**2 == pytest.approx(50 * found, rel=1e-9)
    power = sum(
        stats.binom.pmf(changed, 50, found) for changed in range(51) if mcnemar_exact(changed, 0) < 0.05
    )
    assert power == pytest.approx(0.8, abs=0.07)


def test_five_items_detect_nothing_and_six_do() -> None:
    assert detectable_difference([0.0] * 5, [1.0] * 5) is None
    assert detectable_difference([0.0] * 6, [1.0] * 6) is not None


def test_detectable_difference_of_thousands_of_items_is_small() -> None:
    baseline, candidate = [0.0] * 5_000, [1.0] * 500 + [0.0] * 4_500
    found = detectable_difference(baseline, candidate)
    assert found == pytest.approx(minimum_detectable_difference(5_000, 0.1))
    assert found == pytest.approx((1.96 + 0.8416) * (0.1 / 5_000) ** 0.5, rel=0.01)


def test_stricter_levels_need_larger_differences() -> None:
    baseline, candidate = [0.0] * 60, [1.0] * 20 + [0.0] * 40
    loose, strict = (detectable_difference(baseline, candidate, alpha=alpha) for alpha in (0.05, 0.01))
    assert loose is not None
    assert strict is not None
    assert loose < strict
