"""Curves and intervals as text."""

from __future__ import annotations

import math

from tunix_rt.standalone.charts import interval_bar, sparkline


def test_a_sparkline_goes_from_the_least_to_the_greatest_block() -> None:
    assert sparkline([0.0, 1.0, 2.0, 3.0]) == "▁▃▆█"


def test_equal_values_are_a_flat_line() -> None:
    assert sparkline([2.0, 2.0]) == "▁▁"


def test_values_that_are_not_finite_are_gaps() -> None:
    assert sparkline([0.0, math.nan, 1.0]) == "▁ █"
    assert sparkline([math.inf]) == " "


def test_a_long_curve_keeps_its_last_value() -> None:
    line = sparkline([0.0] * 999 + [1.0], width=10)
    assert line == "▁▁▁▁▁▁▁▁▁█"


def test_an_interval_stands_on_its_scale() -> None:
    assert interval_bar(0.25, 0.5, 0.75, width=9) == "··├─●─┤··"
    assert interval_bar(0.0, 0.0, 1.0, width=5) == "●───┤"
    assert interval_bar(0.0, 0.0, 0.0, width=5) == "●····"
