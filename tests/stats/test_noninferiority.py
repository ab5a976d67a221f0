"""Non-inferiority bounds against published figures, scipy, the likelihood and enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from tunix_rt.stats.noninferiority import difference_lower_bound, score_bound, student_bound


def restricted_variance(gained: int, lost: int, n: int, delta: float) -> float:
    """n times the variance of the mean difference at the likeliest rates whose difference is delta."""

    def minus_log_likelihood(q: float) -> float:
        terms = ((gained, q + delta), (lost, q), (n - gained - lost, 1 - 2 * q - delta))
        return -sum(count * math.log(max(rate, 1e-300)) for count, rate in terms if count)

    low, high = max(0.0, -delta), (1 - delta) / 2
    q = optimize.minimize_scalar(
        minus_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    ).x
    return 2 * q + delta - delta * delta


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(3, 5, 40), (1, 0, 44), (0, 4, 30), (12, 9, 25), (40, 60, 240)]
)
def test_the_score_bound_is_where_the_likelihoods_statistic_is_z(gained, lost, n):
    bound = score_bound(gained, lost, n, confidence=0.95)
    variance = restricted_variance(gained, lost, n, bound)
    statistic = (gained - lost - n * bound) / math.sqrt(n * variance)
    assert statistic == pytest.approx(stats.norm.ppf(0.95), rel=1e-4)


def test_the_score_bound_has_the_published_value():
    # Tango (1998): soft contact lenses, 43 both right, 1 lost of 44; 90 % interval -0.096 to 0.037.
    assert score_bound(0, 1, 44, confidence=0.95) == pytest.approx(-0.096, abs=5e-4)
    assert -score_bound(1, 0, 44, confidence=0.95) == pytest.approx(0.037, abs=5e-4)


def test_no_flips_are_no_proof_of_equality():
    z = stats.norm.ppf(0.95)
    assert score_bound(0, 0, 100) == pytest.approx(-z * z / (100 + z * z), abs=1e-12)


def test_without_a_margin_the_score_test_is_mcnemars():
    bound = score_bound(14, 5, 60, confidence=stats.norm.cdf(9 / math.sqrt(19)))
    assert bound == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("n", "margin", "flips"), [(50, 0.1, 0.2), (100, 0.05, 0.1), (100, 0.05, 0.3)])
def test_a_candidate_at_the_margin_passes_about_one_time_in_twenty(n, margin, flips):
    lost_rate, gained_rate = (flips + margin) / 2, (flips - margin) / 2
    chance = 0.0
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            table = (gained, lost, n - gained - lost)
            weight = (
                stats.multinomial.pmf(table, n, (gained_rate, lost_rate, 1 - flips)) if min(table) >= 0 else 0
            )
            if weight > 1e-9 and score_bound(gained, lost, n) > -margin:
                chance += weight
    assert 0.03 < chance < 0.06


def test_scores_between_right_and_wrong_have_students_bound():
    differences = [0.75, -1.0, 0.5, 0.75, -0.75, 0.5, 0.0, -0.25] * 5
    bound = stats.ttest_1samp(differences, 0, alternative="greater").confidence_interval(0.95).low
    assert student_bound(differences) == pytest.approx(bound, abs=1e-9)


def test_equal_differences_do_not_prove_equality():
    assert student_bound([0.5] * 100) == pytest.approx(0.5 + score_bound(0, 0, 100), abs=1e-12)
    assert student_bound([0.5]) == -1.0


def test_items_of_one_family_count_as_a_family():
    old, new = [1.0] * 200, [1.0, *[0.0] * 20, *[1.0] * 179]
    families = [str(index // 20) for index in range(200)]
    alone, clustered = (
        difference_lower_bound(old, new),
        difference_lower_bound(old, new, clusters=families),
    )
    assert (alone.method, clustered.method, clustered.clusters) == ("score", "clustered", 10)
    sums = np.array([-19, -1, *[0] * 8]) + 0.1 * 20
    error = math.sqrt(10 / 9 * float(sums @ sums)) / 200
    assert clustered.low == pytest.approx(-0.1 - stats.t.ppf(0.95, 9) * error, abs=1e-9)
    assert clustered.low < alone.low


def test_few_families_or_items_without_one_leave_the_items_bound():
    old, new = [1.0, 0.0] * 20, [1.0, 1.0] * 20
    assert difference_lower_bound(old, new, clusters=["a", "b"] * 20).method == "score"
    assert difference_lower_bound(old, new, clusters=["", *map(str, range(39))]).method == "score"


def test_means_of_samples_are_not_taken_for_right_or_wrong():
    assert difference_lower_bound([0.5, 1.0, 0.0], [0.5, 0.5, 0.0]).method == "student"


@pytest.mark.parametrize("confidence", [0.5, 1.0, float("nan")])
def test_a_confidence_out_of_range_is_refused(confidence):
    with pytest.raises(ValueError, match=r"between 0\.5 and 1"):
        score_bound(1, 1, 10, confidence=confidence)


def test_more_flips_than_items_are_refused():
    with pytest.raises(ValueError, match="among the items"):
        score_bound(6, 5, 10)
