"""Curves as arrays: which points count, and their summary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Steps = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
T = TypeVar("T", bound=np.generic)
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Part:
    """The points of one attempt, and the first step from which a newer attempt counts instead.

    `times` are microseconds since 1970, 0 where unknown; None where nobody asks for them.
    """

    steps: Steps
    values: Values
    end_step: int = NEVER
    times: Times | None = None


@dataclass(frozen=True)
class Curve:
    """The points of a metric that count, by rising step; `times` as in `Part`."""

    steps: Steps
    values: Values
    times: Times | None = None


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


def resolve(parts: Sequence[Part]) -> Curve:
    """The points that count; `parts` by rising attempt. Of one step the latest counts."""
    kept = [part.steps < part.end_step for part in parts]
    steps = _joined(np.int64, [part.steps[k] for part, k in zip(parts, kept, strict=True)])
    values = _joined(np.float64, [part.values[k] for part, k in zip(parts, kept, strict=True)])
    timed = [part.times[k] for part, k in zip(parts, kept, strict=True) if part.times is not None]
    times = _joined(np.int64, timed) if timed else None
    if is_rising(steps):
        return Curve(steps, values, times)
    order = np.argsort(steps, kind="stable")
    steps = steps[order]
    latest = np.append(steps[1:] != steps[:-1], True)
    order = order[latest]
    return Curve(steps[latest], values[order], None if times is None else times[order])


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


def _extremes(values: Values) -> tuple[int, int]:
    """The positions of the smallest and the largest value; NaN counts only if there is nothing else."""
    numbers = np.flatnonzero(~np.isnan(values))
    if not len(numbers):
        return 0, 0
    return int(numbers[values[numbers].argmin()]), int(numbers[values[numbers].argmax()])


def _joined(dtype: type[T], arrays: Sequence[npt.NDArray[T]]) -> npt.NDArray[T]:
    return np.concatenate([np.empty(0, dtype), *arrays])
