"""What a job's spec must refer to, and what comparable evaluations share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tunix_rt.blobs.blobs import is_sha256
from tunix_rt.jobs.evaluation_spec import (
    DEFAULT_EXAMPLE_SPLIT,
    DEFAULT_SPLIT,
    EVALUATED,
    GENERATION,
    is_imported,
)
from tunix_rt.registry import datasets, subjects
from tunix_rt.registry.database import Transaction
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, Reason, Violation
from tunix_rt.v1 import dataset_pb2, evaluation_pb2, run_pb2


def shared_spec(spec: evaluation_pb2.EvaluationSpec) -> evaluation_pb2.EvaluationSpec:
    """What comparable evaluations share: all but what is evaluated, and the leave to be contaminated.

    The task does not count: it only fills in what stands in the spec.
    """
    made = evaluation_pb2.EvaluationSpec()
    made.CopyFrom(spec)
    made.subject = ""
    made.allow_contamination = False
    made.predictions = ""
    made.task = ""
    return made


def board_key(spec: evaluation_pb2.EvaluationSpec, dataset_sha256: str) -> str:
    """The digest that comparable evaluations share; the dataset counts by its content."""
    shared = shared_spec(spec)
    shared.dataset = ""
    if shared.method == GENERATION:
        shared.method = ""  # evaluations that are older than the field stand on the same board
    return hashlib.sha256(dataset_sha256.encode() + shared.SerializeToString(deterministic=True)).hexdigest()


async def check_run(tx: Transaction, spec: run_pb2.RunSpec, field: str) -> None:
    """Raises unless model, dataset, split and the datasets of `evaluate_after` are there and usable."""
    violations = [
        names.check(spec.model, names.MODEL_VERSION, f"{field}.model"),
        names.check(spec.dataset, names.DATASET, f"{field}.dataset"),
    ]
    violations += [
        names.check(each.dataset, names.DATASET, f"{field}.evaluate_after[{index}].dataset")
        for index, each in enumerate(spec.evaluate_after)
    ]
    _raise(violations)
    await subjects.weights_digest(tx, spec.model)
    dataset = await datasets.get_sealed(tx, spec.dataset)
    _check_split(dataset, spec.train_split or "train", f"{field}.train_split")
    for index, each in enumerate(spec.evaluate_after):
        target = await datasets.get_sealed(tx, each.dataset)
        _check_splits(target, each, f"{field}.evaluate_after[{index}]")


async def check_evaluation(
    tx: Transaction, spec: evaluation_pb2.EvaluationSpec, field: str
) -> dataset_pb2.Dataset:
    """The dataset. Raises unless subject, dataset and split are there and usable."""
    _raise(
        [
            names.check_any(spec.subject, EVALUATED, f"{field}.subject"),
            names.check(spec.dataset, names.DATASET, f"{field}.dataset"),
            _predictions_violation(spec, f"{field}.predictions"),
        ]
    )
    if not is_imported(spec):
        await subjects.weights_digest(tx, spec.subject)
    dataset = await datasets.get_sealed(tx, spec.dataset)
    _check_splits(dataset, spec, field)
    return dataset


def _predictions_violation(spec: evaluation_pb2.EvaluationSpec, field: str) -> Violation | None:
    """Predictions that were made elsewhere stand for the weights of their subject, and for no other's."""
    if is_imported(spec) and not is_sha256(spec.predictions):
        return Violation(field, f"is `{spec.predictions[:80]}`; it must be the SHA-256 of the predictions.")
    if spec.predictions and not is_imported(spec):
        return Violation(field, f"is set, but `{spec.subject[:200]}` has weights; leave it out.")
    return None


def _check_splits(dataset: dataset_pb2.Dataset, spec: evaluation_pb2.EvaluationSpec, field: str) -> None:
    _check_split(dataset, spec.split or DEFAULT_SPLIT, f"{field}.split")
    if spec.HasField("few_shot"):
        _check_split(dataset, spec.few_shot.split or DEFAULT_EXAMPLE_SPLIT, f"{field}.few_shot.split")


def _check_split(dataset: dataset_pb2.Dataset, name: str, field: str) -> None:
    counts = {split.name: split.trace_count for split in dataset.splits}
    if name not in counts:
        raise InvalidArgument.of(field, f"is `{name[:80]}`; `{dataset.name}` has {', '.join(counts)}.")
    if not counts[name]:
        raise FailedPrecondition(
            Reason.SPLIT_EMPTY,
            f"Split `{name}` of `{dataset.name}` has no traces. Use another split or a larger dataset.",
            {"resource": dataset.name, "split": name},
        )


def _raise(violations: Sequence[Violation | None]) -> None:
    bad = [each for each in violations if each]
    if bad:
        raise InvalidArgument(bad)
