"""Decides which steps are skipped because their gradient is far larger than those before; pure."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class SpikeSettings:
    """Skip a norm over `ratio` times the median of the last `window`; fail after `max_in_a_row` skips."""

    ratio: float
    window: int
    max_in_a_row: int


@dataclass(frozen=True)
class Spikes:
    """The gradient norms of the last updates, oldest first, and the steps skipped: in all, and the latest."""

    norms: tuple[float, ...] = ()
    skipped: int = 0
    in_a_row: int = 0

    def largest_norm(self, settings: SpikeSettings | None) -> float:
        """The norm above which the next step is skipped; infinite until the window is full."""
        if settings is None or len(self.norms) < settings.window:
            return math.inf
        return settings.ratio * statistics.median(self.norms)

    def after(self, settings: SpikeSettings | None, norm: float, *, skipped: bool) -> Spikes:
        """What is known after a step; a skipped norm does not enter the window."""
        if settings is None:
            return self
        if skipped:
            return replace(self, skipped=self.skipped + 1, in_a_row=self.in_a_row + 1)
        return replace(self, norms=(*self.norms, norm)[-settings.window :], in_a_row=0)
