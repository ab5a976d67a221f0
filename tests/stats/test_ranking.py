from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tunix_rt.stats.ranking import Place, paired_p_value, rank_tied, surely_separated

NAN = math.nan


def enumerated(differences):
    """The sign-flip p-value by all patterns of signs."""
    moved = [d for d in differences if d]
    total = abs(sum(moved))
    sums = [
        abs(sum(s * d for s, d in zip(signs, moved, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(moved))
    ]
    return sum(each >= total - 1e-12 for each in sums) / len(sums)


def rows(*values):
    return np.array(values, dtype=np.float64)


def right(count, of):
    return [1.0] * count + [0.0] * (of - count)


def test_entries_that_the_test_does_not_separate_from_the_best_share_its_rank():
    # 40, 36 and 20 of 40 right, nested: 4 items differ (p = 2/2⁴), then 20 (p = 2/2²⁰).
    places = rank_tied(rows(right(40, 40), right(36, 40), right(20, 40)), seed=1)
    assert places == [Place(1, None), Place(1, 0.125), Place(3, None)]


def test_an_entry_is_tested_against_the_best_of_its_rank_only():
    # 12, 8 and 5 of 12: the third differs from the second by 3 items, but from the first by 7 (p = 2/2⁷).
    places = rank_tied(rows(right(12, 12), right(8, 12), right(5, 12)), seed=1)
    assert places == [Place(1, None), Place(1, 0.125), Place(3, None)]


def test_equal_systems_are_tied_with_certainty():
    assert rank_tied(rows(right(3, 5), right(3, 5)), seed=1) == [Place(1, None), Place(1, 1.0)]


def test_overlapping_intervals_are_no_tie_where_the_pairs_tell_them_apart():
    # 60 and 50 of 100: Wilson's intervals overlap, but each of the 10 items that differ went one way.
    assert [place.rank for place in rank_tied(rows(right(60, 100), right(50, 100)), seed=1)] == [1, 2]


def test_only_items_of_both_are_compared():
    places = rank_tied(rows([1, 1, 1, NAN], [0, 0, NAN, 0]), seed=1)
    assert places == [Place(1, None), Place(1, 0.5)]


def test_nothing_separates_systems_without_a_common_item():
    assert rank_tied(rows([1, NAN], [NAN, 0]), seed=1) == [Place(1, None), Place(1, None)]


def test_nothing_is_ranked_to_nothing():
    assert rank_tied(np.empty((0, 3)), seed=1) == []


def test_ten_families_are_flipped_as_wholes():
    baseline, candidate = rows([1.0] * 20, [0.0] * 20)
    families = [f"f{i // 2}" for i in range(20)]
    assert paired_p_value(baseline, candidate, seed=1, families=families) == pytest.approx(2 / 2**10)
    assert paired_p_value(baseline, candidate, seed=1) == pytest.approx(2 / 2**20)


def test_nine_families_are_too_few_to_be_flipped():
    baseline, candidate = rows([1.0] * 18, [0.0] * 18)
    families = [f"f{i // 2}" for i in range(18)]
    assert paired_p_value(baseline, candidate, seed=1, families=families) == pytest.approx(2 / 2**18)


def test_families_do_not_count_where_an_item_has_none():
    baseline, candidate = rows([1.0] * 20, [0.0] * 20)
    families = ["", *(f"f{i // 2}" for i in range(1, 20))]
    assert paired_p_value(baseline, candidate, seed=1, families=families) == pytest.approx(2 / 2**20)


def test_a_family_is_needed_for_each_item():
    with pytest.raises(ValueError, match="there are 2 items and 1 families"):
        rank_tied(rows([1, 0], [0, 0]), seed=1, families=["a"])


@pytest.mark.parametrize("seed", range(20))
def test_p_values_are_those_of_enumeration(seed):
    generator = np.random.default_rng(seed)
    baseline, candidate = generator.integers(0, 5, size=(2, 12)) / 4
    assert paired_p_value(baseline, candidate, seed=0) == pytest.approx(enumerated(candidate - baseline))


@pytest.mark.parametrize("seed", range(200))
def test_the_bound_never_separates_what_the_test_does_not(seed):
    generator = np.random.default_rng(seed)
    differences = generator.integers(-1, 4, size=10) / generator.integers(1, 4)
    if surely_separated(differences, 0.05):
        assert enumerated(differences) < 0.05


def test_the_bound_separates_what_is_far_apart():
    assert surely_separated(np.ones(8), 0.05)
    assert not surely_separated(np.ones(7), 0.05)  # 2·exp(-3.5) = 0.06, though p is 2/2⁷
