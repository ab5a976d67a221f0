"""One optimizer step of a run in place, and what stops it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tunix_rt.trainer.batches import Batch
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.gradient import Arrays
from tunix_rt.trainer.program import Program
from tunix_rt.trainer.snapshot import Snapshot
from tunix_rt.trainer.specfile import TrainSpec
from tunix_rt.trainer.update import Controls


def take_step(
    program: Program,
    snapshot: Snapshot,
    frozen: Any,
    batch: Batch,
    arrays: Arrays,
    *,
    spec: TrainSpec,
    rate: float,
    meanwhile: Callable[[], None],
) -> dict[str, float]:
    """Bring the snapshot one step further; a skipped step changes no weight and counts no token.

    Gives the scalars of `apply_gradient`. `arrays` are the batch's, and `meanwhile` is done while the device
    computes.

    Raises TrainingFailure when loss or gradient are not finite, or too many steps in a row are skipped.
    """
    step = snapshot.step + 1
    spikes = spec.optimizer.spikes
    largest = snapshot.spikes.largest_norm(spikes)
    controls = Controls(np.float32(rate), np.float32(largest), step_key(spec.seed, step))
    carried, scalars = program.step(snapshot.carried, frozen, arrays, program.spread.everywhere(controls))
    snapshot.carry(carried)
    meanwhile()
    measured = {name: float(value) for name, value in scalars.items()}
    norm = measured["grad_norm"]
    if not measured["finite"]:
        raise _non_finite(step, batch, loss=measured["loss"], grad_norm=norm)
    skipped = bool(measured["skipped"])
    snapshot.spikes = snapshot.spikes.after(spikes, norm, skipped=skipped)
    if spikes is not None and snapshot.spikes.in_a_row > spikes.max_in_a_row:
        raise _spikes(step, batch, in_a_row=snapshot.spikes.in_a_row, norm=norm, largest=largest)
    snapshot.step = step
    snapshot.weighted_tokens += 0 if skipped else batch.weighted_count
    return measured


def step_key(seed: int, step: int) -> np.ndarray:
    """The random key (2,) of a step, which depends on all of the seed."""
    digest = hashlib.sha256(f"dropout:{seed}:{step}".encode()).digest()
    return np.frombuffer(digest[:8], dtype="<u4").astype(np.uint32)


def _non_finite(step: int, batch: Batch, *, loss: float, grad_norm: float) -> TrainingFailure:
    return TrainingFailure(
        "NON_FINITE_LOSS",
        f"Step {step} has loss {loss} and gradient norm {grad_norm}; the weights were not updated. "
        f"Lower learning_rate or look at the batch's traces: {', '.join(batch.traces)}.",
    )


def _spikes(step: int, batch: Batch, *, in_a_row: int, norm: float, largest: float) -> TrainingFailure:
    return TrainingFailure(
        "GRADIENT_SPIKES",
        f"Step {step} is number {in_a_row} in a row that is skipped: its gradient norm is {norm:.4g}, the "
        f"limit {largest:.4g}. Lower learning_rate, raise optimizer.spikes.ratio, or look at the traces of "
        f"the batch: {', '.join(batch.traces)}.",
    )
