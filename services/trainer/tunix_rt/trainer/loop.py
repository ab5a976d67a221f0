"""The training loop: from a snapshot to the last step, or to where it is asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import jax
import jax.numpy as jnp
from flax import nnx

from tunix_rt.trainer.batches import Batch, Example, TrainingBatches, validation_batches
from tunix_rt.trainer.checkpoint_writer import CheckpointWriter
from tunix_rt.trainer.flops import StepFlops
from tunix_rt.trainer.gradient import Arrays
from tunix_rt.trainer.metrics_file import write_metrics
from tunix_rt.trainer.optimizer import learning_rate
from tunix_rt.trainer.plan import Plan
from tunix_rt.trainer.profiler import Profiler
from tunix_rt.trainer.program import Program
from tunix_rt.trainer.samples import Sampler
from tunix_rt.trainer.snapshot import Snapshot
from tunix_rt.trainer.specfile import TrainSpec
from tunix_rt.trainer.stepping import take_step
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
    longest_row: int
    validation: Sequence[Example]
    metrics: TextIO
    flops: StepFlops
    sampler: Sampler | None
    profiler: Profiler | None
    checkpoints: CheckpointWriter
    stop_asked: Callable[[], bool]
    report: Callable[[str], None]

    def run(self, snapshot: Snapshot) -> Snapshot:
        """Train until the last step or until a stop is asked for; where it ends, it has saved."""
        pace, logged, saving = Pace(), 0.0, 0.0
        upcoming = _Upcoming(self.batches, self.program)
        try:
            while not self.ended(snapshot) and not self.stop_asked():
                began = time.monotonic()
                values = snapshot.unvalidated or self._step(snapshot, upcoming, saving)
                snapshot.unvalidated = None
                if self.plan.validates(snapshot.step):
                    found = self._validate(snapshot)
                    if found is None:
                        snapshot.unvalidated = values
                        self.checkpoints.after_step(snapshot, {}, due=True)
                        break
                    values = {**values, **found}
                    snapshot.stopping = snapshot.stopping.after(
                        self.spec.early_stopping, snapshot.step, values
                    )
                write_metrics(self.metrics, snapshot.step, values)
                last = self.ended(snapshot)
                if self.sampler and (last or self.sampler.due(snapshot.step)):
                    self._sample(self.sampler, snapshot)
                now = time.monotonic()
                pace.add(now - began + saving)
                if now - logged >= _LOG_SECONDS or "validation/loss" in values or last:
                    remaining = None if last else pace.remaining_seconds(self.plan.steps - snapshot.step)
                    self.report(log_line(snapshot.step, self.plan.steps, values, remaining))
                    logged = now
                due = self.plan.saves(snapshot.step) or last or self.stop_asked()
                self.checkpoints.after_step(snapshot, values, due=due)
                saving = time.monotonic() - now
        finally:
            if self.profiler:
                self.profiler.close()
        return snapshot

    def ended(self, snapshot: Snapshot) -> bool:
        """Whether the run has nothing left to do: all its steps are taken, or it no longer gets better."""
        over = snapshot.step >= self.plan.steps or snapshot.stopping.ended(self.spec.early_stopping)
        return over and snapshot.unvalidated is None

    def _sample(self, sampler: Sampler, snapshot: Snapshot) -> None:
        """Let the process that leads continue the prompts, with the weights of all devices on its first."""
        spread = self.program.spread
        whole = [spread.collected(tree) for tree in (snapshot.carried.result, self.frozen)]
        if spread.leads:
            model = nnx.merge(self.program.graph, *jax.tree.map(jnp.asarray, whole))
            sampler.sample(snapshot.step, model)

    def _step(self, snapshot: Snapshot, upcoming: _Upcoming, saving: float) -> dict[str, float]:
        """Take one step in place, and measure it; the next batch is made while the device computes."""
        began = time.monotonic()
        step = snapshot.step + 1
        if self.profiler:
            self.profiler.before(step)
        batch, arrays = upcoming.take(snapshot.step)
        rate = learning_rate(self.spec.optimizer, step, steps=self.plan.steps)
        fed = time.monotonic()
        scalars = take_step(
            self.program,
            snapshot,
            self.frozen,
            batch,
            arrays,
            spec=self.spec,
            rate=rate,
            meanwhile=lambda: upcoming.prepare(step) if step < self.plan.steps else None,
        )
        ended = time.monotonic()
        if self.profiler:
            self.profiler.after(step)
        values = step_metrics(
            scalars,
            batch,
            StepTimes(step=ended - began, data=fed - began, compute=ended - fed, checkpoint=saving),
            rate=rate,
            weighted_so_far=snapshot.weighted_tokens,
            epoch=self.batches.epochs(step),
            flops=self.flops,
        )
        if self.spec.optimizer.spikes is not None:
            values["train/skipped_steps"] = snapshot.spikes.skipped
        return values

    def _validate(self, snapshot: Snapshot) -> dict[str, float] | None:
        """The means over the validation split; None where a stop was asked for before the last batch."""
        spec = self.spec
        loss = accuracy = entropy = total = 0.0
        batches = validation_batches(
            self.validation,
            batch_size=spec.micro_batch_size,
            max_length=self.longest_row,
            share=self.batches.shared_tokens > 0,
        )
        for number, batch in enumerate(batches):
            if number > 0 and self.stop_asked():
                return None
            arrays = self.program.validation_arrays(batch)
            scalars = self.program.validate(snapshot.carried.result, self.frozen, arrays)
            weight = float(batch.weights.sum(dtype="float64"))
            loss += float(scalars["loss"]) * weight
            accuracy += float(scalars["accuracy"]) * weight
            entropy += float(scalars["entropy"]) * weight
            total += weight
        return {
            "validation/loss": loss / total,
            "validation/perplexity": perplexity(loss / total),
            "validation/token_accuracy": accuracy / total,
            "validation/entropy": entropy / total,
        }


class _Upcoming:
    """The batches of a loop, each made before it is needed where there is time for it."""

    def __init__(self, batches: TrainingBatches, program: Program) -> None:
        self._batches, self._program = batches, program
        self._index = -1
        self._made: tuple[Batch, Arrays] | None = None

    def prepare(self, index: int) -> None:
        """Make the batch of an index."""
        batch = self._batches.batch(index)
        self._index, self._made = index, (batch, self._program.step_arrays(batch))

    def take(self, index: int) -> tuple[Batch, Arrays]:
        """The batch of an index and its arrays."""
        if self._made is None or self._index != index:
            self.prepare(index)
        assert self._made is not None
        return self._made
