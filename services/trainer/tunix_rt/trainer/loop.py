"""The training loop: from a snapshot to the last step, or to where it is asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from tunix_rt.trainer.batches import Example, TrainingBatches, validation_batches
from tunix_rt.trainer.metrics_file import write_metrics
from tunix_rt.trainer.optimizer import learning_rate
from tunix_rt.trainer.plan import Plan
from tunix_rt.trainer.program import Program, batch_arrays
from tunix_rt.trainer.snapshot import Snapshot
from tunix_rt.trainer.specfile import TrainSpec
from tunix_rt.trainer.stepping import take_step

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
        while not self.ended(snapshot) and not self.stop_asked():
            values = self._step(snapshot)
            if self.plan.validates(snapshot.step):
                values |= self._validate(snapshot)
                snapshot.stopping = snapshot.stopping.after(self.spec.early_stopping, snapshot.step, values)
            write_metrics(self.metrics, snapshot.step, values)
            now = time.monotonic()
            last = self.ended(snapshot)
            if now - logged >= _LOG_SECONDS or "validation/loss" in values or last:
                self.report(_log_line(snapshot.step, self.plan.steps, values))
                logged = now
            if self.plan.saves(snapshot.step) or last or self.stop_asked():
                self.save(snapshot)
        return snapshot

    def ended(self, snapshot: Snapshot) -> bool:
        """Whether the run has nothing left to do: all its steps are taken, or it no longer gets better."""
        return snapshot.step >= self.plan.steps or snapshot.stopping.ended(self.spec.early_stopping)

    def _step(self, snapshot: Snapshot) -> dict[str, float]:
        """Take one step in place, and measure it."""
        began = time.monotonic()
        step = snapshot.step + 1
        batch = self.batches.batch(snapshot.step)
        rate = learning_rate(self.spec.optimizer, step, steps=self.plan.steps)
        measured = take_step(self.program, snapshot, self.frozen, batch, spec=self.spec, rate=rate)
        elapsed = time.monotonic() - began
        skipped = (
            {} if self.spec.optimizer.spikes is None else {"train/skipped_steps": snapshot.spikes.skipped}
        )
        return {
            "train/loss": measured.loss,
            "train/learning_rate": rate,
            "train/grad_norm": measured.grad_norm,
            "train/token_accuracy": measured.accuracy,
            "train/tokens": snapshot.weighted_tokens,
            "train/tokens_per_second": batch.token_count / elapsed,
            "train/steps_per_second": 1.0 / elapsed,
            "train/step_time": elapsed,
            **skipped,
        }

    def _validate(self, snapshot: Snapshot) -> dict[str, float]:
        spec = self.spec
        loss = accuracy = total = 0.0
        for batch in validation_batches(
            self.validation, batch_size=spec.micro_batch_size, max_length=spec.max_length
        ):
            scalars = self.program.validate(snapshot.carried.result, self.frozen, batch_arrays(batch))
            weight = float(batch.weights.sum(dtype="float64"))
            loss += float(scalars["loss"]) * weight
            accuracy += float(scalars["accuracy"]) * weight
            total += weight
        return {"validation/loss": loss / total, "validation/token_accuracy": accuracy / total}


def _log_line(step: int, steps: int, values: dict[str, float]) -> str:
    line = f"step {step}/{steps} loss {values['train/loss']:.4f}"
    if "validation/loss" in values:
        line += f" validation {values['validation/loss']:.4f}"
    return f"{line} {values['train/tokens_per_second']:.0f} tokens/s"
