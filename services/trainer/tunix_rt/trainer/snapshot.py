"""The state of a training run between two steps, and its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.lm.checkpoint import load_checkpoint, save_checkpoint
from tunix_rt.trainer.failure import TrainingFailure


@dataclass
class Snapshot:
    """What a run is after `step` steps; `weighted_tokens` counts the predictions trained on so far.

    With `step` and the spec's seed, the data order goes on where it was; `trained` and `optimizer` are
    trees of arrays.
    """

    step: int
    weighted_tokens: int
    trained: Any
    optimizer: Any


def save_snapshot(directory: JobDirectory, snapshot: Snapshot, *, identity: str) -> None:
    """Write the checkpoint of the snapshot's step, whole or not at all, unless it is there."""
    folder = directory.checkpoint(snapshot.step)
    if folder.exists():
        return
    save_checkpoint(
        folder,
        trees=_trees(snapshot),
        state={"step": snapshot.step, "weighted_tokens": snapshot.weighted_tokens, "identity": identity},
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
    )


def _trees(snapshot: Snapshot) -> dict[str, Any]:
    return {"trained": snapshot.trained, "optimizer": snapshot.optimizer}
