"""Curves as arrays: which points count, their summary, and samples that keep the extremes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Steps = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Part:
    """The points of one attempt, and the first step from which a newer attempt counts instead."""

    steps: Steps
    values: Values
    end_step: int = NEVER


@dataclass(frozen=True)
class Summary:
    """Last, smallest and largest value with their steps; NaN is smallest and largest only if all are NaN."""

    last: float
    last_step: int
    min: float
    min_step: int
    max: float
    max_step: int
    count: int


def resolve(parts: Sequence[Part]) -> tuple[Steps, Values]:
    """The points that count, by rising step; `parts` by rising attempt. Of one step the latest counts."""
    kept = [part.steps < part.end_step for part in parts]
    steps = np.concatenate([np.empty(0, np.int64), *(p.steps[k] for p, k in zip(parts, kept, strict=True))])
    values = np.concatenate([np.empty(0), *(p.values[k] for p, k in zip(parts, kept, strict=True))])
    if not is_rising(steps):
        order = np.argsort(steps, kind="stable")
        steps, values = steps[order], values[order]
        latest = np.append(steps[1:] != steps[:-1], True)
        steps, values = steps[latest], values[latest]
    return steps, values


def is_rising(steps: Steps) -> bool:
    """Whether each step is larger than the one before."""
    return bool(np.all(steps[1:] > steps[:-1]))


def summarise(steps: Steps, values: Values) -> Summary:
    """The summary of at least one point, by rising step."""
    low, high = _extremes(values)
    return Summary(
        last=float(values[-1]),
        last_step=int(steps[-1]),
        min=float(values[low]),
        min_step=int(steps[low]),
        max=float(values[high]),
        max_step=int(steps[high]),
        count=len(steps),
    )


def extend(summary: Summary, steps: Steps, values: Values) -> Summary:
    """The summary after more points, all of them later than `summary.last_step` and rising."""
    new = summarise(steps, values)
    lower = new.min < summary.min or (math.isnan(summary.min) and not math.isnan(new.min))
    higher = new.max > summary.max or (math.isnan(summary.max) and not math.isnan(new.max))
    return Summary(
        last=new.last,
        last_step=new.last_step,
        min=new.min if lower else summary.min,
        min_step=new.min_step if lower else summary.min_step,
        max=new.max if higher else summary.max,
        max_step=new.max_step if higher else summary.max_step,
        count=summary.count + new.count,
    )


def sample(
    steps: Steps, values: Values, max_points: int, *, first_step: int, last_step: int
) -> tuple[Steps, Values]:
    """At most `max_points` (at least 2) points: first, smallest, largest and last of each bucket.

    The buckets divide `[first_step, last_step]` evenly, so that curves drawn together share a grid.
    """
    if len(steps) <= max_points:
        return steps, values
    if max_points < 4:
        return steps[[0, -1]], values[[0, -1]]
    buckets = max_points // 4
    span = last_step - first_step + 1
    bucket = ((steps - first_step) * float(buckets) / span).astype(np.int64)
    starts = np.flatnonzero(np.append(True, bucket[1:] != bucket[:-1]))
    ends = np.append(starts[1:], len(steps))
    chosen: list[int] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        low, high = _extremes(values[start:end])
        chosen += sorted({start, start + low, start + high, end - 1})
    return steps[chosen], values[chosen]


def _extremes(values: Values) -> tuple[int, int]:
    """The positions of the smallest and the largest value; NaN counts only if there is nothing else."""
    numbers = np.flatnonzero(~np.isnan(values))
    if not len(numbers):
        return 0, 0
    return int(numbers[values[numbers].argmin()]), int(numbers[values[numbers].argmax()])
