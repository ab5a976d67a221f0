"""Which checkpoints of a run are kept, and which step is its best; pure."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

# What may be best, and whether more is better.
BEST_METRICS = {"validation/loss": False, "validation/token_accuracy": True}


@dataclass(frozen=True)
class Retention:
    """The newest `keep_last`, each whose step is a multiple of `keep_every`, and the best one.

    `keep_every` 0 keeps none for its step; without `best_metric` there is no best one.
    """

    keep_last: int = 1
    keep_every: int = 0
    best_metric: str = ""


@dataclass(frozen=True)
class Best:
    """The step with the best value of the metric so far."""

    step: int
    value: float


def kept(steps: Collection[int], retention: Retention, *, best: int | None) -> set[int]:
    """The steps whose checkpoints stay; the newest is always among them."""
    found = set(sorted(steps)[-max(1, retention.keep_last) :])
    if retention.keep_every > 0:
        found |= {step for step in steps if step % retention.keep_every == 0}
    return found | {step for step in steps if step == best}


def improved(best: Best | None, value: float, metric: str) -> bool:
    """Whether a value is better than the best so far; an equal one is not, nor is NaN."""
    if best is None:
        return not math.isnan(value)
    return value > best.value if BEST_METRICS[metric] else value < best.value
