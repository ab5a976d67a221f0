"""Curves: which attempt counts, summaries, and samples that keep the extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.registry.curves import Part, Summary, extend, resolve, sample, summarise

NAN = math.nan


def curve(steps, values):
    return np.array(steps, np.int64), np.array(values, np.float64)


def test_an_older_attempt_counts_before_the_first_step_of_a_newer_one():
    old = Part(*curve([1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0]), end_step=3)
    new = Part(*curve([3, 4, 5], [30.0, 40.0, 50.0]))
    steps, values = resolve([old, new])
    assert steps.tolist() == [1, 2, 3, 4, 5]
    assert values.tolist() == [1.0, 2.0, 30.0, 40.0, 50.0]


def test_of_one_step_the_latest_point_counts():
    steps, values = resolve([Part(*curve([2, 1, 2], [1.0, 2.0, 3.0]))])
    assert (steps.tolist(), values.tolist()) == ([1, 2], [2.0, 3.0])


def test_no_points_resolve_to_none():
    steps, _ = resolve([])
    assert len(steps) == 0


def test_a_summary_ignores_nan_and_keeps_infinity():
    made = summarise(*curve([1, 2, 3, 4], [NAN, 2.0, -math.inf, NAN]))
    assert (made.min, made.min_step, made.max, made.max_step) == (-math.inf, 3, 2.0, 2)
    assert math.isnan(made.last)
    assert (made.last_step, made.count) == (4, 4)


def test_a_summary_of_nan_alone_is_replaced_by_the_first_number():
    only_nan = summarise(*curve([1], [NAN]))
    assert math.isnan(only_nan.min)
    assert extend(only_nan, *curve([2], [5.0])) == Summary(5.0, 2, 5.0, 2, 5.0, 2, 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(width=32), min_size=2, max_size=40), st.data())
def test_extending_equals_summarising_at_once(values, data):
    cut = data.draw(st.integers(1, len(values) - 1))
    steps, array = curve(range(1, len(values) + 1), values)
    grown = extend(summarise(steps[:cut], array[:cut]), steps[cut:], array[cut:])
    np.testing.assert_equal(vars(grown), vars(summarise(steps, array)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=300),
    st.integers(2, 60),
)
def test_a_sample_keeps_its_budget_both_ends_and_the_extremes(values, budget):
    steps, array = curve(range(1, len(values) + 1), values)
    kept, chosen = sample(steps, array, budget, first_step=1, last_step=len(values))
    assert len(kept) <= budget
    assert np.all(np.diff(kept) > 0)
    assert np.array_equal(array[kept - 1], chosen)
    assert (kept[0], kept[-1]) == (1, len(values))
    if budget >= 4:
        assert (chosen.min(), chosen.max()) == (array.min(), array.max())


def test_each_bucket_of_the_shared_grid_keeps_first_smallest_largest_and_last():
    steps, values = curve(range(1, 101), np.zeros(100))
    values[[3, 40, 60, 90]] = [5.0, -5.0, 7.0, -7.0]
    kept, _ = sample(steps, values, 8, first_step=1, last_step=100)
    assert kept.tolist() == [1, 4, 41, 50, 51, 61, 91, 100]


def test_a_spike_in_a_long_curve_is_kept():
    steps, values = curve(range(1, 100_001), np.zeros(100_000))
    values[54_321] = 1e9
    kept, chosen = sample(steps, values, 1000, first_step=1, last_step=100_000)
    assert len(kept) <= 1000
    assert chosen.max() == 1e9
    assert kept[chosen.argmax()] == 54_322


@pytest.mark.parametrize("budget", [2, 3])
def test_the_smallest_budgets_keep_both_ends(budget):
    steps, values = curve(range(1, 11), range(10))
    kept, _ = sample(steps, values, budget, first_step=1, last_step=10)
    assert kept.tolist() == [1, 10]
