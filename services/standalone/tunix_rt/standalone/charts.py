"""Small pictures in text: a curve in one line, an interval on a scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], *, width: int = 48) -> str:
    """The values, in order, as blocks between their least and greatest; a gap for what is not finite.

    With more values than `width` each block is the last value of an equal share of them.
    """
    count = len(values)
    if count > width:
        values = [values[(column + 1) * count // width - 1] for column in range(width)]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return " " * len(values)
    low, high = min(finite), max(finite)
    return "".join(_block(value, low, high) for value in values)


def interval_bar(low: float, mean: float, high: float, *, width: int = 30) -> str:
    """An interval within `[0, 1]` on a scale of `width` characters, such as `···├─●─┤···`."""
    cells = ["·"] * width
    left, middle, right = (_cell(value, width) for value in (low, mean, high))
    cells[left : right + 1] = "─" * (right + 1 - left)
    cells[left], cells[right] = "├", "┤"
    cells[middle] = "●"
    return "".join(cells)


def _block(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return " "
    share = (value - low) / (high - low) if high > low else 0.0
    return _BLOCKS[min(int(share * len(_BLOCKS)), len(_BLOCKS) - 1)]


def _cell(value: float, width: int) -> int:
    return max(0, min(width - 1, round(value * (width - 1))))
