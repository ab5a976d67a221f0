"""The judgings of a calibration as items of an evaluation, and its result; pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from tunix_rt.judges.calibration import RIGHT, WRONG, Figures, Judging, figures, judgings, refusal
from tunix_rt.judges.corruption import Rules
from tunix_rt.judges.requests import JUDGINGS
from tunix_rt.judges.verdicts import Verdict
from tunix_rt.rpc.errors import FailedPrecondition, Reason
from tunix_rt.scoring.judged import verdict_of
from tunix_rt.scoring.shares import share_score
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import (
    EvaluationResult,
    EvaluationSpec,
    ItemScore,
    JudgeCalibration,
    OutcomeCounts,
)


def judgings_of(
    traces: Sequence[Trace], spec: EvaluationSpec, rules: Rules
) -> list[tuple[Judging, ...] | str]:
    """The judgings of each item, or why it has none; blocks where the rules do."""
    others = sorted({trace.final_answer for trace in traces if trace.final_answer})
    made: list[tuple[Judging, ...] | str] = []
    for trace in traces:
        try:
            made.append(
                judgings(
                    trace,
                    others,
                    rubric=spec.judge.rubric,
                    format=spec.format,
                    seed=spec.decoding.seed,
                    rules=rules,
                )
            )
        except ValueError as error:
            made.append(str(error))
    return made


def judging_item(trace: Trace, position: int, sample: int, judging: Judging, verdict: Verdict) -> ItemScore:
    """A judging as an item: correct if the verdict is the truth, without an answer if there is none."""
    accepts = verdict.accepts
    agrees = accepts is judging.truth
    options = ("accepted", "rejected") if judging.case.second is None else judging.case.options
    item = ItemScore(
        trace_id=trace.id,
        position=position,
        sample=sample,
        prompt=trace.prompt,
        expected_answer=options[not judging.truth],
        output=judging.shown,
        extracted_answer="" if accepts is None else options[not accepts],
        outcome=ItemScore.CORRECT if agrees else ItemScore.NO_ANSWER if accepts is None else ItemScore.WRONG,
        score=float(agrees),
        strict_score=float(agrees),
        finish_reason="stop",
        judge_comment=verdict.comment,
        timed_out=verdict.timed_out,
    )
    if verdict.probability is not None:
        item.judge_score = verdict.probability
    return item


def impossible_items(trace: Trace, position: int) -> list[ItemScore]:
    """The items of a trace whose answer cannot be made wrong."""
    return [
        ItemScore(
            trace_id=trace.id,
            position=position,
            sample=sample,
            prompt=trace.prompt,
            expected_answer=trace.final_answer,
            outcome=ItemScore.FAILED,
        )
        for sample in range(JUDGINGS)
    ]


def calibration_result(items: Sequence[ItemScore], threshold: float) -> EvaluationResult:
    """The result of all judgings. Raises FailedPrecondition, reason LIMIT_EXCEEDED, if there are none."""
    of_position: dict[int, list[ItemScore]] = defaultdict(list)
    for item in sorted(items, key=lambda each: (each.position, each.sample)):
        of_position[item.position].append(item)
    judged = [own for own in of_position.values() if own[0].outcome != ItemScore.FAILED]
    if not judged:
        raise FailedPrecondition(
            Reason.LIMIT_EXCEEDED,
            f"None of the {len(of_position)} items has an answer that can be checked and made wrong. "
            "The evaluator's log names the fault of each.",
            {"count": len(of_position)},
        )
    counts = Counter(item.outcome for item in items)
    return EvaluationResult(
        score=share_score([(own[RIGHT].score + own[WRONG].score) / 2 for own in of_position.values()]),
        outcomes=OutcomeCounts(
            correct=counts[ItemScore.CORRECT],
            wrong=counts[ItemScore.WRONG],
            no_answer=counts[ItemScore.NO_ANSWER],
            failed=counts[ItemScore.FAILED],
        ),
        extracted_rate=(counts[ItemScore.CORRECT] + counts[ItemScore.WRONG]) / len(items),
        stopped_rate=1 - counts[ItemScore.FAILED] / len(items),
        timed_out_rate=sum(any(item.timed_out for item in own) for own in of_position.values())
        / len(of_position),
        calibration=_calibration(
            figures([[verdict_of(item) for item in own] for own in judged]), len(judged), threshold
        ),
    )


def _calibration(found: Figures, items: int, threshold: float) -> JudgeCalibration:
    made = JudgeCalibration(
        count=found.count,
        agreement=share_score(found.agreement),
        kappa=found.kappa,
        kappa_low=found.kappa_low,
        kappa_high=found.kappa_high,
        sensitivity=share_score(found.accepted_right),
        specificity=share_score(found.not_accepted_wrong),
        self_consistency=share_score(found.consistent),
        length_bias=found.length_bias,
        undecided_count=found.undecided_count,
        threshold=threshold,
        may_rank=not refusal(found.kappa_low, items, threshold),
    )
    if found.flips:
        made.flip_rate.CopyFrom(share_score(found.flips))
    return made
