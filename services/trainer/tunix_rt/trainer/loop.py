"""The training loop: from a snapshot to the last step, or to where it is asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np
from flax import nnx

from tunix_rt.lm.model import Decoder
from tunix_rt.trainer.batches import Batch, Example, TrainingBatches, validation_batches
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.flops import StepFlops
from tunix_rt.trainer.metrics_file import write_metrics
from tunix_rt.trainer.optimizer import learning_rate
from tunix_rt.trainer.plan import Plan
from tunix_rt.trainer.profiler import Profiler
from tunix_rt.trainer.program import Arrays, Program, batch_arrays
from tunix_rt.trainer.samples import Sampler
from tunix_rt.trainer.snapshot import Snapshot
from tunix_rt.trainer.specfile import TrainSpec
from tunix_rt.trainer.telemetry import Pace, StepTimes, log_line, perplexity, step_metrics

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
    flops: StepFlops
    sampler: Sampler | None
    profiler: Profiler | None
    save: Callable[[Snapshot], None]
    stop_asked: Callable[[], bool]
    report: Callable[[str], None]

    def run(self, snapshot: Snapshot) -> Snapshot:
        """Train until the last step or until a stop is asked for; where it ends, it has saved."""
        pace, logged, saving = Pace(), 0.0, 0.0
        upcoming = _Upcoming(self.batches)
        try:
            while snapshot.step < self.plan.steps and not self.stop_asked():
                began = time.monotonic()
                values = self._step(snapshot, upcoming, saving)
                if self.plan.validates(snapshot.step):
                    values |= self._validate(snapshot)
                write_metrics(self.metrics, snapshot.step, values)
                if self.sampler and self.sampler.due(snapshot.step, self.plan.steps):
                    self.sampler.sample(snapshot.step, self._model(snapshot))
                now = time.monotonic()
                pace.add(now - began + saving)
                last = snapshot.step == self.plan.steps
                if now - logged >= _LOG_SECONDS or "validation/loss" in values or last:
                    remaining = pace.remaining_seconds(self.plan.steps - snapshot.step)
                    self.report(log_line(snapshot.step, self.plan.steps, values, remaining))
                    logged = now
                saving = 0.0
                if self.plan.saves(snapshot.step) or self.stop_asked():
                    self.save(snapshot)
                    saving = time.monotonic() - now
        finally:
            if self.profiler:
                self.profiler.close()
        return snapshot

    def _model(self, snapshot: Snapshot) -> Decoder:
        return nnx.merge(self.program.graph, snapshot.trained, self.frozen)

    def _step(self, snapshot: Snapshot, upcoming: _Upcoming, saving: float) -> dict[str, float]:
        """Take one step in place, and measure it; the next batch is made while the device computes."""
        began = time.monotonic()
        step = snapshot.step + 1
        if self.profiler:
            self.profiler.before(step)
        batch, arrays = upcoming.take(snapshot.step)
        rate = learning_rate(self.spec.optimizer, step, steps=self.plan.steps)
        fed = time.monotonic()
        snapshot.trained, snapshot.optimizer, outputs = self.program.step(
            snapshot.trained, snapshot.optimizer, self.frozen, arrays, np.float32(rate)
        )
        if step < self.plan.steps:
            upcoming.prepare(step)
        scalars = {name: float(value) for name, value in outputs.items()}
        ended = time.monotonic()
        if not scalars["finite"]:
            raise _non_finite(step, batch, loss=scalars["loss"], grad_norm=scalars["grad_norm"])
        if self.profiler:
            self.profiler.after(step)
        snapshot.step = step
        snapshot.weighted_tokens += batch.weighted_count
        return step_metrics(
            scalars,
            batch,
            StepTimes(step=ended - began, data=fed - began, compute=ended - fed, checkpoint=saving),
            rate=rate,
            weighted_so_far=snapshot.weighted_tokens,
            epoch=self.batches.epochs(step),
            flops=self.flops,
        )

    def _validate(self, snapshot: Snapshot) -> dict[str, float]:
        spec = self.spec
        loss = accuracy = total = 0.0
        for batch in validation_batches(
            self.validation, batch_size=spec.batch_size, max_length=spec.max_length
        ):
            scalars = self.program.validate(snapshot.trained, self.frozen, batch_arrays(batch))
            weight = float(batch.weights.sum(dtype="float64"))
            loss += float(scalars["loss"]) * weight
            accuracy += float(scalars["accuracy"]) * weight
            total += weight
        return {
            "validation/loss": loss / total,
            "validation/perplexity": perplexity(loss / total),
            "validation/token_accuracy": accuracy / total,
        }


def _non_finite(step: int, batch: Batch, *, loss: float, grad_norm: float) -> TrainingFailure:
    return TrainingFailure(
        "NON_FINITE_LOSS",
        f"Step {step} has loss {loss} and gradient norm {grad_norm}; the weights were not updated. "
        f"Lower learning_rate or look at the batch's traces: {', '.join(batch.traces)}.",
    )


class _Upcoming:
    """The batches of a loop, each made before it is needed where there is time for it."""

    def __init__(self, batches: TrainingBatches) -> None:
        self._batches = batches
        self._index = -1
        self._made: tuple[Batch, Arrays] | None = None

    def prepare(self, index: int) -> None:
        """Make the batch of an index."""
        batch = self._batches.batch(index)
        self._index, self._made = index, (batch, batch_arrays(batch))

    def take(self, index: int) -> tuple[Batch, Arrays]:
        """The batch of an index and its arrays."""
        if self._made is None or self._index != index:
            self.prepare(index)
        assert self._made is not None
        return self._made
