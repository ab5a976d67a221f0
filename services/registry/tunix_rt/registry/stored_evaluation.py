"""All that is stored of an evaluation, and what its score can be made from again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunix_rt.jobs.evaluation_spec import DEFAULT_EXAMPLE_SPLIT
from tunix_rt.registry import datasets
from tunix_rt.registry.database import Transaction
from tunix_rt.registry.lifecycle import State
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import FailedPrecondition, NotFound, Reason
from tunix_rt.traces.jsonl import read_canonical
from tunix_rt.traces.trace import Trace
from tunix_rt.v1 import artifact_pb2, evaluation_pb2

PREDICTIONS_FILE = "predictions.jsonl"


@dataclass(frozen=True)
class StoredItem:
    """The score of an output, and the columns that lists and rankings read in its place."""

    item: evaluation_pb2.ItemScore
    trace_id: str
    position: int
    sample: int
    outcome: int
    score: float


@dataclass(frozen=True)
class StoredEvaluation:
    """A succeeded evaluation with its items by position and sample.

    `traces` are the items of its split as the dataset has them, `train` those that rules without a model
    learn from, `predictions` the digests of its outputs as a file, by artifact.
    """

    name: str
    spec: evaluation_pb2.EvaluationSpec
    result: evaluation_pb2.EvaluationResult
    items: Sequence[StoredItem]
    traces: Sequence[Trace]
    train: Sequence[Trace]
    calibration: evaluation_pb2.JudgeCalibration | None
    predictions: dict[str, str]
    dataset_sha256: str
    sealed_sha256: str


async def read(tx: Transaction, name: str) -> StoredEvaluation:
    """Raises NotFound; FailedPrecondition, reason EVALUATION_NOT_FINISHED, if it has not succeeded."""
    names.require(name, names.EVALUATION, "name")
    row = await tx.one(
        "SELECT state, spec, result, dataset_sha256 FROM jobs JOIN evaluations USING (name)"
        " WHERE name = %(name)s",
        name=name,
    )
    if row is None:
        raise NotFound(name)
    if row["state"] != State.SUCCEEDED:
        state = State(row["state"]).name
        text = f"Evaluation `{name}` is {state} and has no result. Verify one that has SUCCEEDED."
        details = {"resource": name, "state": state}
        raise FailedPrecondition(Reason.EVALUATION_NOT_FINISHED, text, details)
    spec = evaluation_pb2.EvaluationSpec.FromString(row["spec"])
    traces = await _traces(tx, spec.dataset, spec.split)
    trained = spec.split != DEFAULT_EXAMPLE_SPLIT
    return StoredEvaluation(
        name=name,
        spec=spec,
        result=evaluation_pb2.EvaluationResult.FromString(row["result"]),
        items=await _items(tx, name),
        traces=traces[: spec.limit] if spec.limit else traces,
        train=await _traces(tx, spec.dataset, DEFAULT_EXAMPLE_SPLIT) if trained else [],
        calibration=await _calibration(tx, spec),
        predictions=await _predictions(tx, name),
        dataset_sha256=row["dataset_sha256"],
        sealed_sha256=(await datasets.get(tx, spec.dataset)).sha256,
    )


async def _items(tx: Transaction, name: str) -> list[StoredItem]:
    rows = await tx.all(
        "SELECT trace_id, position, sample, outcome, score, item FROM item_scores"
        " WHERE evaluation = %(name)s ORDER BY position, trace_id, sample",
        name=name,
    )
    return [
        StoredItem(
            evaluation_pb2.ItemScore.FromString(row["item"]),
            *(row[key] for key in ("trace_id", "position", "sample", "outcome", "score")),
        )
        for row in rows
    ]


async def _traces(tx: Transaction, dataset: str, split: str) -> list[Trace]:
    rows = await tx.all(
        "SELECT record FROM traces WHERE dataset = %(dataset)s AND split = %(split)s ORDER BY position",
        dataset=dataset,
        split=split,
    )
    return [trace for trace, _ in read_canonical(row["record"] for row in rows)]


async def _calibration(
    tx: Transaction, spec: evaluation_pb2.EvaluationSpec
) -> evaluation_pb2.JudgeCalibration | None:
    """The figures of the calibration that the judge goes by."""
    if not spec.judge.calibration:
        return None
    row = await tx.one(
        "SELECT result FROM evaluations WHERE name = %(name)s AND result IS NOT NULL",
        name=spec.judge.calibration,
    )
    return evaluation_pb2.EvaluationResult.FromString(row["result"]).calibration if row else None


async def _predictions(tx: Transaction, name: str) -> dict[str, str]:
    rows = await tx.all(
        "SELECT name, document FROM artifacts WHERE owner = %(name)s AND kind = 'predictions'", name=name
    )
    found = {}
    for row in rows:
        for file in artifact_pb2.Artifact.FromString(row["document"]).files:
            if file.path == PREDICTIONS_FILE:
                found[row["name"]] = file.sha256
    return found
