"""Curves on an axis: smoothed over their steps, cut to a range, reduced on one grid with their extremes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunix_rt.registry.curves import Curve, Steps, Values

_LEAST_POWER = 1e-100
_LEAST_WEIGHT = 1e-6
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Line:
    """The points of a curve by rising place on the axis; without smoothing `smoothed` are the values."""

    places: Values
    steps: Steps
    values: Values
    smoothed: Values

    def at(self, chosen: Indices) -> Line:
        """Some of the points."""
        return Line(self.places[chosen], self.steps[chosen], self.values[chosen], self.smoothed[chosen])


@dataclass(frozen=True)
class Grid:
    """Equal parts of a range of places."""

    low: float
    high: float
    parts: int

    def index(self, places: Values) -> Indices:
        """The part in which each place lies, from 0."""
        width = self.high - self.low
        share = (places - self.low) / width if 0 < width < math.inf else np.zeros(len(places))
        return np.clip((share * self.parts).astype(np.intp), 0, self.parts - 1)


@dataclass(frozen=True)
class Buckets:
    """What lies in each part of a grid that has points, an array for each column."""

    index: Indices
    places: Values
    first: Values
    last: Values
    low: Values
    high: Values
    count: Indices
    smoothed: Values


def lay_out(curve: Curve, places: Values, smoothing: float, *, low: float, high: float) -> Line:
    """The points of a curve within a range; those whose place is not finite are left out."""
    smoothed = smooth(curve.values, smoothing)
    line = Line(places, curve.steps, curve.values, smoothed)
    inside = np.isfinite(places) & (places >= low) & (places <= high)
    if not inside.all():
        line = line.at(np.flatnonzero(inside))
    if np.any(line.places[1:] < line.places[:-1]):
        line = line.at(np.argsort(line.places, kind="stable"))
    return line


def places_by_step(steps: Steps, axis: Curve) -> Values:
    """The value of the curve `axis` at each step; NaN where it has none."""
    if not len(axis.steps):
        return np.full(len(steps), np.nan)
    found = np.minimum(np.searchsorted(axis.steps, steps), len(axis.steps) - 1)
    return np.where(axis.steps[found] == steps, axis.values[found], np.nan)


def smooth(values: Values, weight: float) -> Values:
    """The exponential moving average, corrected for its start; what is not finite stays, and out of it.

    s_k = w s_(k-1) + (1 - w) v_k with s_0 = 0, shown as s_k / (1 - w^k): Kingma and Ba, 2015, section 3.
    """
    if weight == 0.0:
        return values
    finite = np.isfinite(values)
    numbers = values[finite]
    if not len(numbers):
        return values
    made = values.copy()
    scale = float(np.abs(numbers).max()) or 1.0
    counts = np.arange(1, len(numbers) + 1)
    start = -np.expm1(counts * math.log(weight))
    made[finite] = _decaying_sums(numbers / scale, weight) * (1.0 - weight) / start * scale
    return made


def _decaying_sums(values: Values, weight: float) -> Values:
    """c_k = w c_(k-1) + v_k: within blocks by cumulative sums, then the same over the ends of the blocks."""
    if weight < _LEAST_WEIGHT or len(values) < 2:
        made = itertools.accumulate(values.tolist(), lambda before, value: weight * before + value)
        return np.array(list(made), np.float64)
    length = max(2, min(len(values), int(math.log(_LEAST_POWER) / math.log(weight))))
    powers = weight ** np.arange(length, dtype=np.float64)
    blocks = -(-len(values) // length)
    padded = np.zeros((blocks, length))
    padded.reshape(-1)[: len(values)] = values
    sums = np.cumsum(padded / powers, axis=1) * powers
    if blocks > 1:
        carried = _decaying_sums(sums[:-1, -1], weight**length)
        sums[1:] += carried[:, None] * (powers * weight)
    return sums.reshape(-1)[: len(values)]


def sample(line: Line, max_points: int, *, low: float, high: float) -> Line:
    """At most `max_points` (at least 2) points: first, smallest, largest and last of each part of a grid.

    The grid divides `[low, high]`, so that curves drawn together share it.
    """
    if len(line.steps) <= max_points:
        return line
    if max_points < 4:
        return line.at(np.array([0, len(line.steps) - 1]))
    _, starts, ends = _divide(line, Grid(low, high, max_points // 4))
    _, lowest = _least(line.values, starts, ends)
    _, highest = _least(-line.values, starts, ends)
    return line.at(np.unique(np.concatenate([starts, lowest, highest, ends - 1])))


def bucket(line: Line, grid: Grid) -> Buckets:
    """What lies in each part of a grid; NaN is smallest and largest only if there is nothing else."""
    index, starts, ends = _divide(line, grid)
    low, _ = _least(line.values, starts, ends)
    high, _ = _least(-line.values, starts, ends)
    return Buckets(
        index=index,
        places=line.places[starts],
        first=line.values[starts],
        last=line.values[ends - 1],
        low=low,
        high=-high,
        count=ends - starts,
        smoothed=line.smoothed[ends - 1],
    )


def _divide(line: Line, grid: Grid) -> tuple[Indices, Indices, Indices]:
    """The parts of the grid that have points, and where the points of each begin and end."""
    index = grid.index(line.places)
    starts = np.flatnonzero(np.append(True, index[1:] != index[:-1])) if len(index) else np.empty(0, np.intp)
    return index[starts], starts, np.append(starts[1:], len(index)) if len(index) else starts


def _least(values: Values, starts: Indices, ends: Indices) -> tuple[Values, Indices]:
    """The smallest value between each start and end, and its first place; NaN if there is nothing else."""
    if not len(starts):
        return np.empty(0), starts
    least = np.fmin.reduceat(values, starts)
    part = np.repeat(np.arange(len(starts)), ends - starts)
    found = np.flatnonzero(values == least[part])
    places = starts.copy()
    places[part[found][::-1]] = found[::-1]  # of several the first, which is written last
    return least, places
