from itertools import product

import numpy as np
import pytest
from scipy import stats

from tunix_rt.stats.clustered_pairs import clustered_difference
from tunix_rt.stats.paired import detectable_difference, mcnemar_exact

SIZES = (4, 3, 5, 2, 3, 2, 1, 3, 4, 2)
FAMILIES = [f"family {number}" for number, size in enumerate(SIZES) for _ in range(size)]
OLD = [0.0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1]
NEW = [1.0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 0, 1]


def test_interval_is_that_of_statsmodels_clustered_regression_on_the_constant():
    found = clustered_difference(OLD, NEW, clusters=FAMILIES, seed=1)
    # OLS(new - old, ones).fit(cov_type="cluster", cov_kwds={"groups": …}, use_t=True).conf_int(), 0.14.6
    assert (found.interval.low, found.interval.high) == pytest.approx((-0.02610636, 0.50886498), abs=1e-8)
    assert found.clusters == 10


def test_interval_follows_the_formula_written_out():
    differences = np.subtract(NEW, OLD)
    mean, total = differences.mean(), 0.0
    for name in set(FAMILIES):
        own = [d - mean for d, family in zip(differences, FAMILIES, strict=True) if family == name]
        total += sum(own) ** 2
    reach = stats.t.ppf(0.95, 9) * (10 / 9 * total) ** 0.5 / 29
    found = clustered_difference(OLD, NEW, clusters=FAMILIES, seed=1, confidence=0.9).interval
    assert (found.low, found.high) == pytest.approx((mean - reach, mean + reach), rel=1e-9)


def test_test_enumerates_the_flips_of_whole_families():
    sums = np.bincount([int(name.split()[1]) for name in FAMILIES], weights=np.subtract(NEW, OLD))
    hits = [abs(np.dot(signs, sums)) >= abs(sums.sum()) - 1e-9 for signs in product((1, -1), repeat=10)]
    assert clustered_difference(OLD, NEW, clusters=FAMILIES, seed=1).p_value == np.mean(hits) == 152 / 1024


def test_graded_scores_in_many_families_are_drawn_with_the_seed():
    old, new = np.random.default_rng(5).random((2, 60))
    families = [str(number // 2) for number in range(60)]
    found = clustered_difference(old.tolist(), new.tolist(), clusters=families, seed=1)
    assert (
        found.p_value == clustered_difference(old.tolist(), new.tolist(), clusters=families, seed=1).p_value
    )
    assert found.p_value * 10_001 == pytest.approx(round(found.p_value * 10_001), abs=1e-6)
    sums = np.subtract(new, old).reshape(30, 2).sum(axis=1)
    exact = stats.permutation_test(
        (sums,), np.sum, permutation_type="samples", n_resamples=50_000, rng=np.random.default_rng(1)
    )
    assert found.p_value == pytest.approx(exact.pvalue, abs=0.02)


def test_families_of_one_item_give_mcnemar_again():
    own = [str(index) for index in range(29)]
    assert clustered_difference(OLD, NEW, clusters=own, seed=1).p_value == pytest.approx(mcnemar_exact(9, 2))


def test_copies_of_items_are_no_further_evidence():
    old, new = [0.0] * 7 + [1.0, 1.0, 0.0], [1.0] * 7 + [0.0, 1.0, 0.0]
    families = [str(index) for index in range(10)]
    once = clustered_difference(old, new, clusters=families, seed=1)
    often = clustered_difference(old * 5, new * 5, clusters=families * 5, seed=1)
    assert often.p_value == once.p_value == pytest.approx(mcnemar_exact(7, 1))
    assert often.interval.low == pytest.approx(once.interval.low)
    assert mcnemar_exact(35, 5) < 1e-5


def test_false_alarms_stay_at_the_level_where_families_go_together():
    generator = np.random.default_rng(7)
    families = [str(index // 10) for index in range(120)]
    clustered, by_items = 0, 0
    for _ in range(400):
        shift = np.repeat(generator.choice([-1, 0, 1], size=12), 10)
        new = (shift > 0) * (generator.random(120) < 0.7)
        old = (shift < 0) * (generator.random(120) < 0.7)
        found = clustered_difference(old.astype(float).tolist(), new.astype(float).tolist(),
                                     clusters=families, seed=1)  # fmt: skip
        clustered += found.p_value < 0.05
        by_items += mcnemar_exact(int(new.sum()), int(old.sum())) < 0.05
    assert clustered / 400 <= 0.07
    assert by_items / 400 > 0.3


def test_interval_is_cut_to_differences_of_scores():
    families = [str(index) for index in range(10)]
    found = clustered_difference([0.0] * 10, [1.0] * 9 + [0.0], clusters=families, seed=1)
    assert found.interval.high == 1.0


def test_equal_items_have_no_width_and_an_effect_of_one():
    found = clustered_difference(OLD, OLD, clusters=FAMILIES, seed=1)
    assert (found.interval.low, found.interval.high, found.p_value, found.design_effect) == (0, 0, 1, 1)


def test_design_effect_of_whole_families_is_their_size():
    old, new = [0.0] * 100, [float(index // 10 % 2) for index in range(100)]
    families = [str(index // 10) for index in range(100)]
    found = clustered_difference(old, new, clusters=families, seed=1)
    assert found.design_effect == pytest.approx(10 * 99 / 90)


def test_items_that_go_together_reveal_less():
    old, new = [0.0] * 400, [1.0] * 60 + [0.0] * 340
    quarter = detectable_difference([0.0] * 100, [1.0] * 15 + [0.0] * 85)
    assert detectable_difference(old, new, design_effect=4.0) == pytest.approx(quarter)
    assert detectable_difference(old, new, design_effect=0.5) == detectable_difference(old, new)


def test_clusters_must_name_each_item():
    with pytest.raises(ValueError, match="29 values and 28 clusters"):
        clustered_difference(OLD, NEW, clusters=FAMILIES[1:], seed=1)
