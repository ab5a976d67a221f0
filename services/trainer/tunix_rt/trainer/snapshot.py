"""The state of a training run between two steps, and its checkpoints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.lm.checkpoint import load_checkpoint, save_checkpoint
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.spikes import Spikes
from tunix_rt.trainer.stopping import Stopping
from tunix_rt.trainer.update import Carried


@dataclass
class Snapshot:
    """What a run is after `step` steps; `weighted_tokens` counts the predictions trained on so far.

    With `step` and the spec's seed, the data order goes on where it was; `trained` and `optimizer` are
    trees of arrays, and so is `averaged` where an average of the weights is kept.
    """

    step: int
    weighted_tokens: int
    trained: Any
    optimizer: Any
    averaged: Any | None = None
    stopping: Stopping = field(default_factory=Stopping)
    spikes: Spikes = field(default_factory=Spikes)

    @property
    def carried(self) -> Carried:
        """What the compiled step goes on from."""
        return Carried(self.trained, self.optimizer, self.averaged)

    def carry(self, carried: Carried) -> None:
        """Take over what the compiled step has left."""
        self.trained, self.optimizer, self.averaged = carried


def save_snapshot(directory: JobDirectory, snapshot: Snapshot, *, identity: str) -> None:
    """Write the checkpoint of the snapshot's step, whole or not at all, unless it is there."""
    folder = directory.checkpoint(snapshot.step)
    if folder.exists():
        return
    save_checkpoint(
        folder,
        trees=_trees(snapshot),
        state={
            "step": snapshot.step,
            "weighted_tokens": snapshot.weighted_tokens,
            "identity": identity,
            "stopping": asdict(snapshot.stopping),
            "spikes": asdict(snapshot.spikes),
        },
    )


def load_snapshot(directory: JobDirectory, start: Snapshot, *, identity: str) -> Snapshot:
    """The newest complete checkpoint's state, or `start` where there is none.

    Raises TrainingFailure when the checkpoint is of another run, ModelError when it cannot be read.
    """
    found = directory.complete_checkpoints()
    if not found:
        return start
    step, folder = found[-1]
    trees, state = load_checkpoint(folder, templates=_trees(start))
    if state.get("identity") != identity or state.get("step") != step:
        raise TrainingFailure(
            "CHILD_FAILED",
            f"Checkpoint {folder.name} belongs to another spec, dataset or base model. "
            "Remove the checkpoints, or give the files that they were made with.",
        )
    return Snapshot(
        step=step,
        weighted_tokens=int(state["weighted_tokens"]),
        trained=trees["trained"],
        optimizer=trees["optimizer"],
        averaged=trees.get("averaged"),
        stopping=Stopping(**state["stopping"]),
        spikes=Spikes(**{**state["spikes"], "norms": tuple(state["spikes"]["norms"])}),
    )


def _trees(snapshot: Snapshot) -> dict[str, Any]:
    trees = {"trained": snapshot.trained, "optimizer": snapshot.optimizer}
    return trees if snapshot.averaged is None else {**trees, "averaged": snapshot.averaged}
