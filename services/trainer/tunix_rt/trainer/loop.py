"""The training loop: from a snapshot to the last step, or to where it is asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

from tunix_rt.trainer.batches import Batch, Example, TrainingBatches, validation_batches
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.metrics_file import write_metrics
from tunix_rt.trainer.optimizer import learning_rate
from tunix_rt.trainer.plan import Plan
from tunix_rt.trainer.program import Program
from tunix_rt.trainer.snapshot import Snapshot
from tunix_rt.trainer.specfile import TrainSpec

_LOG_SECONDS = 2.0


@dataclass
class Training:
    """Everything that the loop works with."""

    spec: TrainSpec
    plan: Plan
    program: Program
    frozen: Any
    batches: TrainingBatches
    validation: Sequence[Example]
    metrics: TextIO
    save: Callable[[Snapshot], None]
    stop_asked: Callable[[], bool]
    report: Callable[[str], None]

    def run(self, snapshot: Snapshot) -> Snapshot:
        """Train until the last step or until a stop is asked for; where it ends, it has saved."""
        logged = 0.0
        while snapshot.step < self.plan.steps and not self.stop_asked():
            values = self._step(snapshot)
            if self.plan.validates(snapshot.step):
                values |= self._validate(snapshot)
            write_metrics(self.metrics, snapshot.step, values)
            now = time.monotonic()
            last = snapshot.step == self.plan.steps
            if now - logged >= _LOG_SECONDS or "validation/loss" in values or last:
                self.report(_log_line(snapshot.step, self.plan.steps, values))
                logged = now
            if self.plan.saves(snapshot.step) or self.stop_asked():
                self.save(snapshot)
        return snapshot

    def _step(self, snapshot: Snapshot) -> dict[str, float]:
        """Take one step in place, and measure it."""
        began = time.monotonic()
        step = snapshot.step + 1
        batch = self.batches.batch(snapshot.step)
        rate = learning_rate(self.spec.optimizer, step, steps=self.plan.steps)
        snapshot.trained, snapshot.optimizer, scalars = self.program.step(
            snapshot.trained,
            snapshot.optimizer,
            self.frozen,
            self.program.arrays(batch),
            self.program.spread.placed_scalar(np.float32(rate)),
        )
        loss, grad_norm = float(scalars["loss"]), float(scalars["grad_norm"])
        if not bool(scalars["finite"]):
            raise _non_finite(step, batch, loss=loss, grad_norm=grad_norm)
        snapshot.step = step
        snapshot.weighted_tokens += batch.weighted_count
        elapsed = time.monotonic() - began
        return {
            "train/loss": loss,
            "train/learning_rate": rate,
            "train/grad_norm": grad_norm,
            "train/token_accuracy": float(scalars["accuracy"]),
            "train/tokens": snapshot.weighted_tokens,
            "train/tokens_per_second": batch.token_count / elapsed,
            "train/steps_per_second": 1.0 / elapsed,
            "train/step_time": elapsed,
        }

    def _validate(self, snapshot: Snapshot) -> dict[str, float]:
        spec = self.spec
        loss = accuracy = total = 0.0
        for batch in validation_batches(
            self.validation, batch_size=spec.batch_size, max_length=spec.max_length
        ):
            scalars = self.program.validate(snapshot.trained, self.frozen, self.program.arrays(batch))
            weight = float(batch.weights.sum(dtype="float64"))
            loss += float(scalars["loss"]) * weight
            accuracy += float(scalars["accuracy"]) * weight
            total += weight
        return {"validation/loss": loss / total, "validation/token_accuracy": accuracy / total}


def _non_finite(step: int, batch: Batch, *, loss: float, grad_norm: float) -> TrainingFailure:
    return TrainingFailure(
        "NON_FINITE_LOSS",
        f"Step {step} has loss {loss} and gradient norm {grad_norm}; the weights were not updated. "
        f"Lower learning_rate or look at the batch's traces: {', '.join(batch.traces)}.",
    )


def _log_line(step: int, steps: int, values: dict[str, float]) -> str:
    line = f"step {step}/{steps} loss {values['train/loss']:.4f}"
    if "validation/loss" in values:
        line += f" validation {values['validation/loss']:.4f}"
    return f"{line} {values['train/tokens_per_second']:.0f} tokens/s"
