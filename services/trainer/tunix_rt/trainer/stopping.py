"""Decides from validations when a run no longer gets better; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

HIGHER_IS_BETTER = {"validation/loss": False, "validation/token_accuracy": True}
STOPPING_METRICS = tuple(HIGHER_IS_BETTER)


@dataclass(frozen=True)
class StoppingSettings:
    """Stop after `patience` validations in a row whose metric is not better by more than `min_delta`."""

    metric: str
    patience: int
    min_delta: float


@dataclass(frozen=True)
class Stopping:
    """What the validations so far have shown: the best value, its step, and how many came since."""

    best: float | None = None
    best_step: int = 0
    waited: int = 0

    def after(self, settings: StoppingSettings | None, step: int, values: Mapping[str, float]) -> Stopping:
        """What is known after a validation; one that is not a number is not better."""
        if settings is None:
            return self
        value = values[settings.metric]
        sign = 1.0 if HIGHER_IS_BETTER[settings.metric] else -1.0
        better = self.best is None or sign * (value - self.best) > settings.min_delta
        if better and not math.isnan(value):
            return Stopping(best=value, best_step=step)
        return replace(self, waited=self.waited + 1)

    def ended(self, settings: StoppingSettings | None) -> bool:
        """Whether patience is at its end."""
        return settings is not None and self.waited >= settings.patience

    def text(self, settings: StoppingSettings) -> str:
        """Why the run ends."""
        best = "was never a number"
        if self.best is not None:
            best = f"was best with {self.best:.6g} at step {self.best_step}"
        return f"{settings.metric} {best}; {self.waited} validations since were not better"
