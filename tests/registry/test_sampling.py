"""Curves on an axis: smoothed by the slow formula, sampled and in buckets with their extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.registry.curves import Curve
from tunix_rt.registry.sampling import Grid, bucket, lay_out, places_by_step, sample, smooth

NAN = math.nan


def line_of(values, *, places=None, smoothing=0.0, low=-math.inf, high=math.inf):
    steps = np.arange(1, len(values) + 1)
    places = steps.astype(float) if places is None else np.array(places, float)
    return lay_out(Curve(steps, np.array(values, float)), places, smoothing, low=low, high=high)


def slow_average(values, weight):
    """The moving average by its definition, one value after another."""
    made, average, count = [], 0.0, 0
    for value in values:
        if math.isfinite(value):
            count += 1
            average = weight * average + (1 - weight) * value
            made.append(average / (1 - weight**count))
        else:
            made.append(value)
    return made


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), max_size=400), st.floats(0.0, 0.999))
def test_smoothing_is_the_average_by_its_definition(values, weight):
    made = smooth(np.array(values), weight)
    np.testing.assert_allclose(made, slow_average(values, weight), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("weight", [0.01, 0.5, 0.9, 0.999])
def test_a_long_curve_is_smoothed_by_the_definition(weight):
    values = np.random.default_rng(0).normal(2.0, 1.0, 20_000)
    np.testing.assert_allclose(smooth(values, weight), slow_average(values, weight), rtol=1e-10)


def test_what_is_not_finite_stays_and_is_not_averaged():
    made = smooth(np.array([NAN, 4.0, math.inf, 2.0, -math.inf]), 0.5)
    np.testing.assert_allclose(made, [NAN, 4.0, math.inf, (0.25 * 4 + 0.5 * 2) / 0.75, -math.inf])


def test_the_average_of_a_constant_is_the_constant():
    np.testing.assert_allclose(smooth(np.full(1000, 3.0), 0.99), 3.0, rtol=1e-12)


def test_no_smoothing_leaves_the_values():
    assert smooth(np.array([1.0, 5.0]), 0.0).tolist() == [1.0, 5.0]


def test_a_range_keeps_the_average_of_the_whole_curve():
    whole = line_of([8.0, 0.0, 0.0, 0.0], smoothing=0.5)
    part = line_of([8.0, 0.0, 0.0, 0.0], smoothing=0.5, low=3, high=4)
    assert part.steps.tolist() == [3, 4]
    assert part.smoothed.tolist() == whole.smoothed[2:].tolist()


def test_points_without_a_place_are_left_out_and_the_rest_lie_by_place():
    line = line_of([1.0, 2.0, 3.0, 4.0], places=[30.0, NAN, 10.0, math.inf])
    assert (line.places.tolist(), line.steps.tolist(), line.values.tolist()) == ([10, 30], [3, 1], [3, 1])


def test_a_place_is_the_value_of_the_other_metric_at_the_same_step():
    axis = Curve(np.array([1, 2, 4]), np.array([100.0, 200.0, 400.0]))
    places = places_by_step(np.array([2, 3, 4, 5]), axis)
    np.testing.assert_equal(places, [200.0, NAN, 400.0, NAN])
    empty = Curve(np.empty(0, np.int64), np.empty(0))
    np.testing.assert_equal(places_by_step(np.array([1]), empty), [NAN])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=300), st.integers(2, 60))
def test_a_sample_keeps_its_budget_both_ends_and_the_extremes(values, budget):
    kept = sample(line_of(values), budget, low=1, high=len(values))
    assert len(kept.steps) <= budget
    assert np.all(np.diff(kept.steps) > 0)
    assert np.array_equal(np.array(values)[kept.steps - 1], kept.values)
    assert (kept.steps[0], kept.steps[-1]) == (1, len(values))
    if budget >= 4:
        assert (kept.values.min(), kept.values.max()) == (min(values), max(values))


def test_each_part_of_the_grid_keeps_first_smallest_largest_and_last():
    values = np.zeros(100)
    values[[3, 40, 60, 90]] = [5.0, -5.0, 7.0, -7.0]
    assert sample(line_of(values), 8, low=1, high=100).steps.tolist() == [1, 4, 41, 50, 51, 61, 91, 100]


def test_of_equal_extremes_the_first_is_kept():
    values = np.zeros(100)
    values[[10, 20, 30]] = 1.0
    assert sample(line_of(values), 4, low=1, high=100).steps.tolist() == [1, 11, 100]


def test_a_part_of_nan_alone_is_kept():
    kept = sample(line_of([1.0] * 50 + [NAN] * 50), 8, low=1, high=100)
    assert kept.steps.tolist() == [1, 50, 51, 100]


def test_a_spike_in_a_long_curve_is_kept():
    values = np.zeros(100_000)
    values[54_321] = 1e9
    kept = sample(line_of(values), 1000, low=1, high=100_000)
    assert len(kept.steps) <= 1000
    assert kept.values.max() == 1e9
    assert kept.steps[kept.values.argmax()] == 54_322


@pytest.mark.parametrize("budget", [2, 3])
def test_the_smallest_budgets_keep_both_ends(budget):
    assert sample(line_of(range(10)), budget, low=1, high=10).steps.tolist() == [1, 10]


def test_buckets_tell_what_lies_in_each_part():
    made = bucket(line_of([5.0, NAN, 1.0, 7.0, NAN, 2.0], places=[0, 1, 2, 3, 9, 10]), Grid(0, 10, 5))
    assert made.index.tolist() == [0, 1, 4]
    assert made.places.tolist() == [0, 2, 9]
    assert made.count.tolist() == [2, 2, 2]
    np.testing.assert_equal(made.first, [5.0, 1.0, NAN])
    np.testing.assert_equal(made.last, [NAN, 7.0, 2.0])
    assert (made.low.tolist(), made.high.tolist()) == ([5.0, 1.0, 2.0], [5.0, 7.0, 2.0])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(width=32)), min_size=1, max_size=200), st.integers(2, 20)
)
def test_buckets_equal_what_a_loop_finds(points, parts):
    points.sort(key=lambda point: point[0])
    places, values = [x for x, _ in points], [y for _, y in points]
    grid = Grid(0, 100, parts)
    made = bucket(line_of(values, places=places), grid)
    expected: dict[int, list[float]] = {}
    for place, value in points:
        expected.setdefault(min(int(place / 100 * parts), parts - 1), []).append(value)
    assert made.index.tolist() == sorted(expected)
    for column, index in enumerate(sorted(expected)):
        numbers = [value for value in expected[index] if not math.isnan(value)]
        assert made.count[column] == len(expected[index])
        np.testing.assert_equal(made.low[column], min(numbers, default=NAN))
        np.testing.assert_equal(made.high[column], max(numbers, default=NAN))


def test_all_places_alike_are_one_bucket():
    assert bucket(line_of([1.0, 2.0], places=[3, 3]), Grid(3, 3, 10)).count.tolist() == [2]
