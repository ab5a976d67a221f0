"""The state of a training run between two steps, and its checkpoints."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from tunix_rt.jobs.directory import JobDirectory, read_json, write_json
from tunix_rt.trainer.failure import TrainingFailure

Tree = Any


@dataclass
class Snapshot:
    """What a run is after `step` steps; `weighted_tokens` counts the predictions trained on so far."""

    step: int
    weighted_tokens: int
    trained: Tree
    optimizer: Tree


def save_snapshot(directory: JobDirectory, snapshot: Snapshot, *, identity: str) -> None:
    """Write the checkpoint of the snapshot's step, whole or not at all."""
    final = directory.checkpoint(snapshot.step)
    if final.exists():
        return
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(_flat(snapshot.trained), partial / "trained.safetensors")
    save_file(_flat(snapshot.optimizer), partial / "optimizer.safetensors")
    state = {"step": snapshot.step, "weighted_tokens": snapshot.weighted_tokens, "identity": identity}
    write_json(partial / "state.json", state)
    for path in [*partial.iterdir(), partial]:
        _sync(path)
    partial.rename(final)
    _sync(final.parent)


def load_snapshot(directory: JobDirectory, start: Snapshot, *, identity: str) -> Snapshot:
    """The newest complete checkpoint's state, or `start` where there is none."""
    found = directory.complete_checkpoints()
    if not found:
        return start
    folder = found[-1][1]
    state = read_json(folder / "state.json")
    if state["identity"] != identity:
        raise TrainingFailure(
            "CHILD_FAILED",
            f"Checkpoint {folder.name} belongs to another spec, dataset or base model. "
            "Remove the checkpoints, or give the files that they were made with.",
        )
    return Snapshot(
        step=state["step"],
        weighted_tokens=state["weighted_tokens"],
        trained=_filled(start.trained, folder / "trained.safetensors"),
        optimizer=_filled(start.optimizer, folder / "optimizer.safetensors"),
    )


def _flat(tree: Tree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def _filled(tree: Tree, path: Path) -> Tree:
    tensors = load_file(path)
    return jax.tree_util.tree_map_with_path(lambda at, _: jax.numpy.asarray(tensors[_name(at)]), tree)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
