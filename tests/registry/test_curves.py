"""Curves: which attempt counts, and summaries."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.registry.curves import Part, Summary, extend, resolve, summarise

NAN = math.nan


def curve(steps, values):
    return np.array(steps, np.int64), np.array(values, np.float64)


def test_an_older_attempt_counts_before_the_first_step_of_a_newer_one():
    old = Part(*curve([1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0]), end_step=3)
    new = Part(*curve([3, 4, 5], [30.0, 40.0, 50.0]))
    made = resolve([old, new])
    assert made.steps.tolist() == [1, 2, 3, 4, 5]
    assert made.values.tolist() == [1.0, 2.0, 30.0, 40.0, 50.0]


def test_of_one_step_the_latest_point_counts():
    times = np.array([10, 20, 30])
    made = resolve([Part(*curve([2, 1, 2], [1.0, 2.0, 3.0]), times=times)])
    assert (made.steps.tolist(), made.values.tolist()) == ([1, 2], [2.0, 3.0])
    assert made.times is not None
    assert made.times.tolist() == [20, 30]


def test_no_points_resolve_to_none():
    assert len(resolve([]).steps) == 0


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
