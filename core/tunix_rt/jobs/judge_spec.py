"""The rules of a judge in an evaluation's spec, which three services share; pure."""

from __future__ import annotations

from collections.abc import Iterator

from tunix_rt.judges.requests import JUDGE_SCORER, JUDGINGS
from tunix_rt.rpc.errors import Violation
from tunix_rt.rpc.names import ENDPOINT, EVALUATION, MODEL_VERSION, RUN, check, check_any, matches
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec, Judge

CALIBRATION_METHOD = "judge-calibration"
JUDGES = (MODEL_VERSION, RUN, ENDPOINT)
MAX_RUBRIC = 4096
MAX_MODEL = 200


def is_calibration(spec: EvaluationSpec) -> bool:
    """Whether the spec measures a judge instead of a model."""
    return spec.method == CALIBRATION_METHOD


def is_judged_by(spec: EvaluationSpec) -> bool:
    """Whether the scores are the judge's verdicts."""
    return spec.scorer == JUDGE_SCORER and not is_calibration(spec)


def judge_violations(judge: Judge, field: str) -> Iterator[Violation]:
    """What is wrong with a judge; `field` is its path."""
    if bad := check_any(judge.subject, JUDGES, f"{field}.subject"):
        yield bad
    at_endpoint = matches(judge.subject, ENDPOINT)
    if at_endpoint and not judge.model.strip():
        text = f"is required: say which model of `{judge.subject}` is to judge."
        yield Violation(f"{field}.model", text)
    if judge.model and not at_endpoint:
        text = f"is `{judge.model[:80]}`, but `{judge.subject[:200]}` is a model itself. Leave it empty."
        yield Violation(f"{field}.model", text)
    if len(judge.model) > MAX_MODEL or not judge.model.isprintable():
        yield Violation(f"{field}.model", f"must be printable and have at most {MAX_MODEL} characters.")
    if len(judge.rubric) > MAX_RUBRIC:
        text = f"has {len(judge.rubric)} characters; it must have at most {MAX_RUBRIC}."
        yield Violation(f"{field}.rubric", text)
    if judge.calibration and (bad := check(judge.calibration, EVALUATION, f"{field}.calibration")):
        yield bad


def judging_violations(spec: EvaluationSpec, field: str) -> Iterator[Violation]:
    """What is wrong with the judge of a spec, given what else the spec says."""
    if spec.HasField("judge"):
        yield from judge_violations(spec.judge, f"{field}.judge")
    elif spec.scorer == JUDGE_SCORER or is_calibration(spec):
        text = f"is required with the scorer `{JUDGE_SCORER}` and the method `{CALIBRATION_METHOD}`."
        yield Violation(f"{field}.judge", text)
    if spec.HasField("judge") and spec.method not in ("", "generation", CALIBRATION_METHOD):
        text = f"is set, but the method `{spec.method[:80]}` generates no outputs to judge. Leave it out."
        yield Violation(f"{field}.judge", text)
    if is_calibration(spec):
        yield from _calibration_violations(spec, field)


def no_calibration_violations(spec: EvaluationSpec, field: str) -> Iterator[Violation]:
    """A calibration is asked for where it cannot be."""
    if is_calibration(spec):
        text = f"is `{CALIBRATION_METHOD}`; call `CalibrateJudge` for it."
        yield Violation(f"{field}.method", text)


def _calibration_violations(spec: EvaluationSpec, field: str) -> Iterator[Violation]:
    if spec.judge.calibration:
        text = f"is `{spec.judge.calibration[:200]}`; a calibration has none itself. Leave it empty."
        yield Violation(f"{field}.judge.calibration", text)
    if spec.subject != spec.judge.subject:
        text = f"is `{spec.subject[:200]}`; in a calibration it is the judge, `{spec.judge.subject[:200]}`."
        yield Violation(f"{field}.subject", text)
    if spec.samples != JUDGINGS:
        text = f"is {spec.samples}; a calibration judges {JUDGINGS} times an item."
        yield Violation(f"{field}.samples", text)
