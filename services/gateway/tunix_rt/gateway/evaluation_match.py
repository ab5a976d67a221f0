"""Finds evaluations that may be compared: same items, prompt, decoding and scorer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunix_rt.jobs.evaluation_spec import FLOAT32, GENERATION
from tunix_rt.jobs.judge_spec import is_calibration, is_judged_by
from tunix_rt.jobs.parameters import flatten_message
from tunix_rt.v1 import evaluation_pb2

Evaluation = evaluation_pb2.Evaluation
_NOT_SHARED = ("subject", "dataset", "allow_contamination", "predictions", "task")


@dataclass(frozen=True)
class Match:
    """The evaluation to compare of each subject, None where it has none.

    `missing_reason` is empty if they are comparable. `datasets` are those on
    which all subjects have comparable evaluations; several mean that the
    caller must choose.
    """

    evaluations: tuple[Evaluation | None, ...]
    missing_reason: str
    datasets: tuple[str, ...]


def comparability_key(evaluation: Evaluation) -> dict[str, str]:
    """What two evaluations must share for their items to be compared, by field.

    Every setting counts, also one that is added later; the dataset counts by its content, and a judge
    only where it makes the scores.
    """
    without = _NOT_SHARED if is_judged_by(evaluation.spec) else (*_NOT_SHARED, "judge")
    flat = flatten_message(evaluation.spec, without=without)
    # What evaluations that are older than these fields were made with.
    if flat.get("method") == GENERATION:
        flat["method"] = ""
    if flat.get("weight_type") == FLOAT32:
        flat["weight_type"] = ""
    return {"dataset_sha256": evaluation.dataset_sha256} | flat


def match_evaluations(
    subjects: Sequence[str], evaluations: Sequence[Sequence[Evaluation]], *, dataset: str, split: str
) -> Match:
    """Chooses one evaluation a subject, the newest comparable ones.

    `evaluations` holds the succeeded evaluations of each subject, newest first.
    An empty `dataset` admits all. Of several comparable sets on one dataset,
    that with the baseline's newest evaluation is taken.
    """
    fitting = [
        [e for e in own if e.spec.split == split and dataset in ("", e.spec.dataset) and _may_rank(e)]
        for own in evaluations
    ]
    shared = set.intersection(*({_frozen(e) for e in own} for own in fitting))
    datasets = tuple(sorted({e.spec.dataset for e in fitting[0] if _frozen(e) in shared}))
    if shared:
        key = next(_frozen(e) for e in fitting[0] if _frozen(e) in shared)
        chosen = tuple(next(e for e in own if _frozen(e) == key) for own in fitting)
        return Match(chosen, "", datasets)
    closest = _closest(fitting)
    reason = _reason(subjects, closest, dataset=dataset, split=split)
    if any(is_judged_by(e.spec) and not _may_rank(e) for own in evaluations for e in own):
        reason += " Those by a judge that may not rank do not count; calibrate it with CalibrateJudge."
    return Match(closest, reason, ())


def _may_rank(evaluation: Evaluation) -> bool:
    """Whether the scores may be compared: not those of a judge that may not rank, nor a judge's own."""
    spec = evaluation.spec
    return not is_calibration(spec) and (not is_judged_by(spec) or evaluation.result.judged.may_rank)


def _closest(fitting: Sequence[Sequence[Evaluation]]) -> tuple[Evaluation | None, ...]:
    """The baseline's newest evaluation, and of each other subject that which differs from it least."""
    baseline = fitting[0][0] if fitting[0] else None
    if baseline is None:
        return (None, *(own[0] if own else None for own in fitting[1:]))
    others = (min(own, key=lambda e: len(_differing(baseline, e)), default=None) for own in fitting[1:])
    return (baseline, *others)


def _reason(
    subjects: Sequence[str], closest: Sequence[Evaluation | None], *, dataset: str, split: str
) -> str:
    place = f"split `{split}`" + (f" of `{dataset}`" if dataset else "")
    without = [subject for subject, e in zip(subjects, closest, strict=True) if e is None]
    if without:
        names = " and ".join(f"`{name}`" for name in without)
        verb = "has" if len(without) == 1 else "have"
        return f"{names} {verb} no succeeded evaluation on {place}. Create one with CreateEvaluation."
    known = [e for e in closest if e is not None]
    fields = dict.fromkeys(field for e in known[1:] for field in _differing(known[0], e))
    texts = [
        f"{field} ({', '.join(comparability_key(e).get(field, '') or 'empty' for e in known)})"
        for field in fields
    ]
    return (
        f"The evaluations on {place} are not comparable; they differ in {', '.join(texts)}. "
        "Evaluate all subjects with the same spec."
    )


def _differing(one: Evaluation, other: Evaluation) -> list[str]:
    ours, theirs = comparability_key(one), comparability_key(other)
    return [field for field in ours | theirs if ours.get(field, "") != theirs.get(field, "")]


def _frozen(evaluation: Evaluation) -> tuple[object, ...]:
    return tuple(sorted(comparability_key(evaluation).items()))
