"""What a step is measured by: from its scalars, its batch and its clock to named metrics."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from tunix_rt.trainer.batches import Batch
from tunix_rt.trainer.flops import StepFlops

# What two runs of one spec differ in: time and memory.
MACHINE_METRICS = frozenset(
    f"train/{name}"
    for name in (
        "tokens_per_second",
        "weighted_tokens_per_second",
        "steps_per_second",
        "flops_per_second",
        "step_time",
        "data_time",
        "compute_time",
        "checkpoint_time",
        "peak_memory_bytes",
    )
)


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one step: all of it, waiting for its batch, and on the device.

    `checkpoint` is how long the loop waited for a checkpoint after the step before.
    """

    step: float
    data: float
    compute: float
    checkpoint: float


def step_metrics(
    scalars: Mapping[str, float],
    batch: Batch,
    times: StepTimes,
    *,
    rate: float,
    weighted_so_far: int,
    epoch: float,
    flops: StepFlops,
) -> dict[str, float]:
    """The metrics of one step."""
    tokens, weighted = batch.token_count, batch.weighted_count
    operations = flops.total(tokens=tokens, weighted=weighted, pairs=batch.visible_pairs)
    return {
        "train/loss": scalars["loss"],
        "train/perplexity": perplexity(scalars["loss"]),
        "train/token_accuracy": scalars["accuracy"],
        "train/entropy": scalars["entropy"],
        "train/learning_rate": rate,
        "train/grad_norm": scalars["grad_norm"],
        "train/update_norm": scalars["update_norm"],
        "train/epoch": epoch,
        "train/tokens": weighted_so_far,
        "train/padding_share": 1.0 - tokens / batch.tokens.size,
        "train/tokens_per_second": tokens / times.step,
        "train/weighted_tokens_per_second": weighted / times.step,
        "train/steps_per_second": 1.0 / times.step,
        "train/flops_per_second": operations / times.step,
        "train/step_time": times.step,
        "train/data_time": times.data,
        "train/compute_time": times.compute,
        "train/checkpoint_time": times.checkpoint,
        "train/peak_memory_bytes": peak_memory_bytes(),
    }


def perplexity(loss: float) -> float:
    """The exponential of a loss in nats; infinite where that is too large for a number."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def peak_memory_bytes() -> int:
    """The most memory held so far: of the first device, or on a CPU of the process."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "peak_bytes_in_use" in statistics:
        return int(statistics["peak_bytes_in_use"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Pace:
    """The time that is left, from the median time of the newest steps; the first one is not counted."""

    def __init__(self, window: int = 64) -> None:
        self._window = window
        self._steps: list[float] = []
        self._first = True

    def add(self, seconds: float) -> None:
        """Takes in a step with everything that came after it."""
        if not self._first:
            self._steps = [*self._steps[1 - self._window :], seconds]
        self._first = False

    def remaining_seconds(self, steps: int) -> float | None:
        """The time of so many more steps; None until a step is known."""
        return float(np.mean(self._steps)) * steps if self._steps else None


def log_line(step: int, steps: int, values: Mapping[str, float], remaining: float | None) -> str:
    """A step as a line of the log, such as `step 12/40 loss 1.2500 820 tokens/s, 0:03:10 left`."""
    line = f"step {step}/{steps} loss {values['train/loss']:.4f}"
    if "validation/loss" in values:
        line += f" validation {values['validation/loss']:.4f}"
    line += f" {values['train/tokens_per_second']:.0f} tokens/s"
    if remaining is None or step == steps:
        return line
    minutes, seconds = divmod(round(remaining), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{line}, {hours}:{minutes:02}:{seconds:02} left"
