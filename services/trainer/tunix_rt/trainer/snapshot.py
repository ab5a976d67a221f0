"""The state of a training run between two steps, and its checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.lm.checkpoint import (
    host_copy,
    load_checkpoint,
    read_state,
    save_checkpoint,
    verify_checkpoint,
)
from tunix_rt.lm.errors import ModelError
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.fingerprint import differences
from tunix_rt.trainer.mesh import Spread
from tunix_rt.trainer.retention import Best
from tunix_rt.trainer.spikes import Spikes
from tunix_rt.trainer.stopping import Stopping
from tunix_rt.trainer.update import Carried


@dataclass
class Snapshot:
    """What a run is after `step` steps; `weighted_tokens` counts the predictions trained on so far.

    With `step` and the spec's seed, the data order goes on where it was; `trained` and `optimizer` are
    trees of arrays, and so is `averaged` where an average of the weights is kept. `environments` says under
    which code, libraries and device the steps were taken: one entry for each change, with the step that it
    came after. `unvalidated` is what the step has measured, where its validation was broken off.
    """

    step: int
    weighted_tokens: int
    trained: Any
    optimizer: Any
    averaged: Any | None = None
    stopping: Stopping = field(default_factory=Stopping)
    spikes: Spikes = field(default_factory=Spikes)
    best: Best | None = None
    environments: tuple[Mapping[str, Any], ...] = ()
    unvalidated: Mapping[str, float] | None = None

    @property
    def carried(self) -> Carried:
        """What the compiled step goes on from."""
        return Carried(self.trained, self.optimizer, self.averaged)

    def carry(self, carried: Carried) -> None:
        """Take over what the compiled step has left."""
        self.trained, self.optimizer, self.averaged = carried


@dataclass(frozen=True)
class Origin:
    """What stands in every checkpoint of a run, for it to be known again.

    `identity` hashes spec, dataset and base model, `rows_sha256` the rendered rows; `epoch_rows` are the
    rows of an epoch and `batch_size` those of a step.
    """

    identity: str
    rows_sha256: str
    spec: Mapping[str, Any]
    environment: Mapping[str, str]
    epoch_rows: int
    batch_size: int


def host_snapshot(snapshot: Snapshot, spread: Spread) -> Snapshot:
    """The snapshot with its arrays copied to the host, so that the next step may take theirs over."""
    trees = _trees(snapshot)
    copies = host_copy(trees) if spread.alone else spread.collected(trees)
    return Snapshot(**{**vars(snapshot), **copies})


def save_snapshot(directory: JobDirectory, snapshot: Snapshot, origin: Origin) -> None:
    """Write the checkpoint of the snapshot's step, whole or not at all, in place of one that is there."""
    epoch, row = divmod(snapshot.step * origin.batch_size, origin.epoch_rows)
    state = {
        "step": snapshot.step,
        "weighted_tokens": snapshot.weighted_tokens,
        "position": {"epoch": epoch, "row": row},
        "stopping": asdict(snapshot.stopping),
        "spikes": asdict(snapshot.spikes),
        "best": asdict(snapshot.best) if snapshot.best else None,
        "unvalidated": snapshot.unvalidated,
        "identity": origin.identity,
        "rows_sha256": origin.rows_sha256,
        "spec": origin.spec,
        "environments": list(snapshot.environments),
    }
    save_checkpoint(directory.checkpoint(snapshot.step), trees=_trees(snapshot), state=state)


def load_snapshot(
    directory: JobDirectory, start: Snapshot, origin: Origin, *, report: Callable[[str], None]
) -> Snapshot:
    """The state of the newest checkpoint whose bytes are those of its manifest, or `start` without one.

    Damaged checkpoints are reported, and left where they are. Raises TrainingFailure when the checkpoint is
    of another run, ModelError when its arrays are not the run's.
    """
    start.environments = ({"after_step": 0, **origin.environment},)
    found = directory.complete_checkpoints()
    for step, folder in reversed(found):
        try:
            state = _verified_state(directory, step)
        except ModelError as error:
            report(f"checkpoint {folder.name} is damaged and not used: {error}")
            continue
        _check_origin(state, origin, folder.name)
        return _continued(directory, start, state, origin, report)
    if found:
        report("no checkpoint can be used: training begins again at step 1")
    return start


def load_trained(directory: JobDirectory, step: int, template: Snapshot) -> Snapshot:
    """The snapshot of a step, with the arrays that its checkpoint holds. Raises ModelError."""
    verify_checkpoint(directory.checkpoint(step))
    trees, state = load_checkpoint(directory.checkpoint(step), templates=_trees(template))
    return Snapshot(**{**vars(template), **trees, "step": step, "weighted_tokens": state["weighted_tokens"]})


def _verified_state(directory: JobDirectory, step: int) -> dict[str, Any]:
    """The state of a checkpoint that can be gone on from: the best one that it knows of must be there too."""
    folder = directory.checkpoint(step)
    verify_checkpoint(folder)
    state = read_state(folder)
    best = state["best"]
    if best and best["step"] != step:
        verify_checkpoint(directory.checkpoint(best["step"]))
    return state


def _check_origin(state: Mapping[str, Any], origin: Origin, name: str) -> None:
    if state["rows_sha256"] != origin.rows_sha256:
        raise TrainingFailure(
            "CHILD_FAILED",
            f"Checkpoint {name} was trained on other rows: their SHA-256 is {state['rows_sha256']}, and that "
            f"of the same traces now {origin.rows_sha256}. Resume with the version that rendered them, or "
            "train anew.",
        )
    if state["identity"] != origin.identity:
        raise TrainingFailure(
            "CHILD_FAILED",
            f"Checkpoint {name} belongs to another spec, dataset or base model. "
            "Remove the checkpoints, or give the files that they were made with.",
        )


def _continued(
    directory: JobDirectory,
    start: Snapshot,
    state: Mapping[str, Any],
    origin: Origin,
    report: Callable[[str], None],
) -> Snapshot:
    step = int(state["step"])
    trees, _ = load_checkpoint(directory.checkpoint(step), templates=_trees(start))
    environments = tuple(state["environments"])
    if changed := differences(environments[-1], origin.environment):
        report(f"after step {step} the bytes may differ from those of an unbroken run: {changed}")
        environments += ({"after_step": step, **origin.environment},)
    return Snapshot(
        step=step,
        weighted_tokens=int(state["weighted_tokens"]),
        stopping=Stopping(**state["stopping"]),
        spikes=Spikes(**{**state["spikes"], "norms": tuple(state["spikes"]["norms"])}),
        best=Best(**state["best"]) if state["best"] else None,
        environments=environments,
        unvalidated=state.get("unvalidated"),
        **trees,
    )


def _trees(snapshot: Snapshot) -> dict[str, Any]:
    trees = {"trained": snapshot.trained, "optimizer": snapshot.optimizer}
    return trees if snapshot.averaged is None else {**trees, "averaged": snapshot.averaged}
