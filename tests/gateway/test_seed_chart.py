from __future__ import annotations

import pytest

from tunix_rt.gateway.web.seed_chart import seed_chart
from tunix_rt.v1.gateway_service_pb2 import SeedGroup


def chart(low=0.37, high=0.45, scores=(0.40, 0.42), subjects=("models/m/versions/v1", "runs/b")):
    group = SeedGroup(
        runs=["runs/a", "runs/b"], seeds=[1, 2], scores=scores, mean=sum(scores) / 2, low=low, high=high,
        standard_deviation=0.014,
    )  # fmt: skip
    return seed_chart([group], subjects)


def test_axis_runs_from_tick_to_tick_around_all_values():
    assert [round(share, 4) for share, _ in chart().ticks] == [0.36, 0.38, 0.4, 0.42, 0.44, 0.46]
    assert [left for _, left in chart().ticks] == pytest.approx([0, 20, 40, 60, 80, 100])


def test_dots_and_interval_stand_on_the_axis():
    (row,) = chart().rows
    assert [dot.left for dot in row.dots] == pytest.approx([40, 60])
    assert (row.mean, row.range_left, row.range_width) == pytest.approx((50, 10, 80))


def test_compared_run_has_the_colour_of_its_subject():
    (row,) = chart().rows
    assert [dot.place for dot in row.dots] == [None, 1]


def test_equal_scores_have_an_axis_too():
    assert len(chart(low=0.4, high=0.4, scores=(0.4, 0.4)).ticks) == 2


def test_two_seeds_far_apart_keep_the_axis_within_scores():
    shares = [share for share, _ in chart(low=0.0, high=1.0, scores=(0.1, 0.9)).ticks]
    assert (shares[0], shares[-1]) == (0.0, pytest.approx(1.0))


def test_no_groups_are_no_chart():
    assert seed_chart([], []) is None
