"""Verdicts on outputs, and what they add up to; pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from tunix_rt.answers.extract import answer_in_format
from tunix_rt.jobs.judge_spec import is_judged_by
from tunix_rt.judges.calibration import refusal
from tunix_rt.judges.requests import Case
from tunix_rt.judges.verdicts import Verdict
from tunix_rt.scoring.shares import share_score
from tunix_rt.stats.agreement import rogan_gladen, rogan_gladen_interval
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import (
    EvaluationResult,
    EvaluationSpec,
    ItemScore,
    JudgeCalibration,
    JudgedScore,
)


def awaits_verdict(item: ItemScore) -> bool:
    """Whether an output was generated and no judge has seen it; an undecided one has a comment."""
    return bool(item.finish_reason) and not item.HasField("judge_score") and not item.judge_comment


def unscored(item: ItemScore, spec: EvaluationSpec) -> ItemScore:
    """The item as it stands until the judge has seen it: where the judge makes the score, without one.

    There it does not count either whether the comparison of answers ran past its deadline.
    """
    made = _copy(item)
    if is_judged_by(spec):
        made.outcome, made.score, made.strict_score = ItemScore.FAILED, 0.0, 0.0
        made.timed_out = False
    return made


def output_case(item: ItemScore, trace: Trace, spec: EvaluationSpec) -> Case:
    """What the judge is asked of an output: the whole of it, reasoning included."""
    return Case(trace.prompt, trace.final_answer, item.output, spec.judge.rubric)


def with_verdict(item: ItemScore, verdict: Verdict, spec: EvaluationSpec) -> ItemScore:
    """The item with a verdict, which is its score where the judge makes it. Undecided is FAILED then."""
    made = _copy(item)
    if verdict.probability is not None:
        made.judge_score = verdict.probability
    made.judge_comment = verdict.comment
    made.timed_out = item.timed_out or verdict.timed_out
    if is_judged_by(spec):
        outcomes = {True: ItemScore.CORRECT, False: ItemScore.WRONG, None: ItemScore.FAILED}
        made.outcome = outcomes[verdict.accepts]
        made.score = float(verdict.accepts is True)
        formatted = answer_in_format(item.output, spec.format) is not None
        made.strict_score = made.score if formatted else 0.0
    return made


def verdict_of(item: ItemScore) -> bool | None:
    """Whether the judge accepts the output; None without a verdict."""
    return Verdict(item.judge_score).accepts if item.HasField("judge_score") else None


def add_judged(
    result: EvaluationResult,
    outputs: Sequence[ItemScore],
    spec: EvaluationSpec,
    calibration: JudgeCalibration | None,
) -> None:
    """Adds what the judge said to the result; takes away rules that cannot be measured by a judge."""
    result.judged.CopyFrom(judged_score(outputs, spec, calibration))
    if is_judged_by(spec):
        del result.baselines[:]


def judged_score(
    outputs: Sequence[ItemScore], spec: EvaluationSpec, calibration: JudgeCalibration | None
) -> JudgedScore:
    """The share that the judge accepts, corrected for its errors where they were measured.

    The outputs of an item are averaged first. Undecided and failed outputs are not accepted.
    """
    of_item: dict[int, list[float]] = defaultdict(list)
    for output in outputs:
        of_item[output.position].append(float(verdict_of(output) is True))
    score = share_score([math.fsum(own) / len(own) for own in of_item.values()])
    made = JudgedScore(score=score, undecided_count=sum(verdict_of(output) is None for output in outputs))
    made.reason = _refused(spec, calibration)
    made.may_rank = not made.reason
    if calibration is not None:
        _correct(made, calibration)
    return made


def _refused(spec: EvaluationSpec, calibration: JudgeCalibration | None) -> str:
    if calibration is None:
        return (
            f"The judge `{spec.judge.subject}` may not rank: it is not calibrated. "
            "`tunix-rt judges calibrate` measures it."
        )
    if calibration.may_rank:
        return ""
    why = refusal(calibration.kappa_low, calibration.count // 2, calibration.threshold)
    return (
        f"The judge `{spec.judge.subject}` may not rank: by `{spec.judge.calibration}`, "
        f"{why or 'its calibration does not allow it'}."
    )


def _correct(judged: JudgedScore, calibration: JudgeCalibration) -> None:
    """The corrected rate; absent where the judge is no better than chance, which corrects nothing."""
    sensitivity, specificity = calibration.sensitivity, calibration.specificity
    if sensitivity.mean + specificity.mean <= 1:
        return
    rate = rogan_gladen(judged.score.mean, sensitivity.mean, specificity.mean)
    interval = rogan_gladen_interval(
        judged.score.mean,
        judged.score.count,
        sensitivity=sensitivity.mean,
        sensitivity_count=sensitivity.count,
        specificity=specificity.mean,
        specificity_count=specificity.count,
    )
    judged.corrected = rate
    judged.corrected_low, judged.corrected_high = min(interval.low, rate), max(interval.high, rate)


def _copy(item: ItemScore) -> ItemScore:
    made = ItemScore()
    made.CopyFrom(item)
    return made
