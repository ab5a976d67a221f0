"""What a job's spec must refer to, and what comparable evaluations share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tunix_rt.blobs.blobs import is_sha256
from tunix_rt.jobs.evaluation_spec import (
    DEFAULT_EXAMPLE_SPLIT,
    DEFAULT_SPLIT,
    FLOAT32,
    GENERATION,
    is_imported,
    subject_patterns,
)
from tunix_rt.jobs.judge_spec import is_calibration, is_judged_by
from tunix_rt.registry import datasets, subjects
from tunix_rt.registry.database import Transaction
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, NotFound, Reason, Violation
from tunix_rt.v1 import dataset_pb2, evaluation_pb2, run_pb2


def shared_spec(spec: evaluation_pb2.EvaluationSpec) -> evaluation_pb2.EvaluationSpec:
    """What comparable evaluations share: all but what is evaluated, and the leave to be contaminated.

    The task does not count: it only fills in what stands in the spec. A judge counts where it makes the
    scores, and not where it only stands beside them.
    """
    made = evaluation_pb2.EvaluationSpec()
    made.CopyFrom(spec)
    made.subject = ""
    made.allow_contamination = False
    made.predictions = ""
    made.task = ""
    if not is_judged_by(made):
        made.ClearField("judge")
    return made


def board_key(spec: evaluation_pb2.EvaluationSpec, dataset_sha256: str) -> str:
    """The digest that comparable evaluations share; the dataset counts by its content."""
    shared = shared_spec(spec)
    shared.dataset = ""
    # Evaluations that are older than these fields stand on the same board.
    if shared.method == GENERATION:
        shared.method = ""
    if shared.weight_type == FLOAT32:
        shared.weight_type = ""
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
    for index, part in enumerate(spec.mixture):
        other = await datasets.get_sealed(tx, part.dataset)
        _check_split(other, part.split or "train", f"{field}.mixture[{index}].split")
    for index, each in enumerate(spec.evaluate_after):
        target = await datasets.get_sealed(tx, each.dataset)
        check_splits(target, each, f"{field}.evaluate_after[{index}]")
        await _check_judge(tx, each, f"{field}.evaluate_after[{index}]")


async def check_evaluation(
    tx: Transaction, spec: evaluation_pb2.EvaluationSpec, field: str
) -> dataset_pb2.Dataset:
    """The dataset. Raises unless subject, dataset and split are there and usable."""
    _raise(
        [
            names.check_any(spec.subject, subject_patterns(spec), f"{field}.subject"),
            names.check(spec.dataset, names.DATASET, f"{field}.dataset"),
            _predictions_violation(spec, f"{field}.predictions"),
        ]
    )
    if not is_imported(spec):
        await subjects.weights_digest(tx, spec.subject)
        await subjects.require_not_deleted(tx, spec.subject)
    await _check_judge(tx, spec, field)
    dataset = await datasets.get_sealed(tx, spec.dataset)
    check_splits(dataset, spec, field)
    return dataset


def _predictions_violation(spec: evaluation_pb2.EvaluationSpec, field: str) -> Violation | None:
    """Predictions that were made elsewhere stand for the weights of their subject, and for no other's."""
    if is_imported(spec) and not is_sha256(spec.predictions):
        return Violation(field, f"is `{spec.predictions[:80]}`; it must be the SHA-256 of the predictions.")
    if spec.predictions and not is_imported(spec):
        return Violation(field, f"is set, but `{spec.subject[:200]}` has weights; leave it out.")
    return None


async def _check_judge(tx: Transaction, spec: evaluation_pb2.EvaluationSpec, field: str) -> None:
    """Raises unless the judge has weights and its calibration is one; the evaluator looks if they match."""
    if not spec.HasField("judge"):
        return
    await subjects.weights_digest(tx, spec.judge.subject)
    if not spec.judge.calibration:
        return
    name = names.require(spec.judge.calibration, names.EVALUATION, f"{field}.judge.calibration")
    row = await tx.one("SELECT spec FROM jobs WHERE name = %(name)s", name=name)
    if row is None:
        raise NotFound(name)
    if not is_calibration(evaluation_pb2.EvaluationSpec.FromString(row["spec"])):
        text = f"is `{name}`, which is no calibration. Make one with CalibrateJudge."
        raise InvalidArgument.of(f"{field}.judge.calibration", text)


def check_splits(dataset: dataset_pb2.Dataset, spec: evaluation_pb2.EvaluationSpec, field: str) -> None:
    """Raises unless the splits that are evaluated and that examples are drawn from have traces."""
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
