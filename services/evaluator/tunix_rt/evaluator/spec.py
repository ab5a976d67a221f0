"""Checks and completes what evaluations and generations are asked for; pure."""

from __future__ import annotations

from tunix_rt.answers.equivalence import ANSWER_TYPES
from tunix_rt.answers.score import SCORER
from tunix_rt.evaluator.messages import Decoding
from tunix_rt.jobs.evaluation_spec import (
    SUBJECTS,
    choice_violations,
    complete_evaluation,
    decoding_violations,
    evaluation_violations,
    seed_violations,
    system_prompt_violations,
    unused_settings,
)
from tunix_rt.jobs.judge_spec import CALIBRATION_METHOD, judge_violations, no_calibration_violations
from tunix_rt.judges.requests import JUDGINGS
from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.rpc.names import DATASET, check, check_any, check_id
from tunix_rt.traces.text import FORMATS
from tunix_rt.v1 import evaluation_pb2, evaluator_service_pb2

MAX_PROMPTS = 64
MAX_ANSWERS = 10_000
BARE_FORMAT = "none"
_OUTPUT_ONLY = ("name", "status", "run", "dataset_sha256", "weights_digest", "result")


def complete_spec(
    spec: evaluation_pb2.EvaluationSpec, field: str = "evaluation.spec"
) -> evaluation_pb2.EvaluationSpec:
    """The spec with its defaults filled in.

    Raises InvalidArgument that names every field which cannot be used; settings without effect pass.
    """
    _refuse(list(evaluation_violations(spec, field)))
    return complete_evaluation(spec)


def engine_decoding(decoding: evaluation_pb2.Decoding) -> Decoding:
    """A complete decoding as the engine takes it."""
    return Decoding(
        max_tokens=decoding.max_tokens,
        temperature=decoding.temperature,
        top_k=decoding.top_k,
        top_p=decoding.top_p,
        seed=decoding.seed,
        min_p=decoding.min_p,
        repetition_penalty=decoding.repetition_penalty,
        stop=tuple(decoding.stop),
    )


def check_create(request: evaluator_service_pb2.CreateEvaluationRequest) -> None:
    """Raises InvalidArgument that names every bad field of the request."""
    bad = [check_id(request.evaluation_id, "evaluation_id")]
    for descriptor, _ in request.evaluation.ListFields():
        if descriptor.name in _OUTPUT_ONLY:
            bad.append(Violation(f"evaluation.{descriptor.name}", "is output only; leave it out."))
    spec, field = request.evaluation.spec, "evaluation.spec"
    bad += [*evaluation_violations(spec, field), *unused_settings(spec.decoding, f"{field}.decoding")]
    bad += no_calibration_violations(spec, field)
    _refuse([each for each in bad if each])


def calibration_spec(request: evaluator_service_pb2.CalibrateJudgeRequest) -> evaluation_pb2.EvaluationSpec:
    """The complete spec of a calibration; `decoding.seed` is the seed of its corruptions.

    Raises InvalidArgument that names every bad field of the request.
    """
    bad = [check_id(request.evaluation_id, "evaluation_id"), *judge_violations(request.judge, "judge")]
    if request.judge.calibration:
        text = f"is `{request.judge.calibration[:200]}`; a calibration has none itself. Leave it empty."
        bad.append(Violation("judge.calibration", text))
    bad += [check(request.dataset, DATASET, "dataset"), check_id(request.split, "split")]
    if request.limit < 0:
        bad.append(Violation("limit", f"is {request.limit}; it must be positive, or 0 for all items."))
    bad += seed_violations(request.seed, "seed")
    _refuse([each for each in bad if each])
    return complete_evaluation(
        evaluation_pb2.EvaluationSpec(
            method=CALIBRATION_METHOD,
            subject=request.judge.subject,
            judge=request.judge,
            dataset=request.dataset,
            split=request.split,
            limit=request.limit,
            samples=JUDGINGS,
            decoding=evaluation_pb2.Decoding(seed=request.seed),
        )
    )


def check_generate(request: evaluator_service_pb2.GenerateRequest) -> None:
    """Raises InvalidArgument that names every bad field of the request."""
    bad = [check_any(request.subject, SUBJECTS, "subject")]
    if not 1 <= len(request.prompts) <= MAX_PROMPTS:
        count = len(request.prompts)
        bad.append(Violation("prompts", f"has {count} prompts; give at least 1 and at most {MAX_PROMPTS}."))
    for index, prompt in enumerate(request.prompts[:MAX_PROMPTS]):
        if not prompt.strip():
            bad.append(Violation(f"prompts[{index}]", "is empty; give a question."))
    bad += decoding_violations(request.decoding, "decoding")
    bad += unused_settings(request.decoding, "decoding")
    bad += choice_violations(request.format, (*FORMATS, BARE_FORMAT), "format")
    bad += system_prompt_violations(request.system_prompt, "system_prompt")
    _refuse([each for each in bad if each])


def check_answers(request: evaluator_service_pb2.ScoreAnswersRequest) -> None:
    """Raises InvalidArgument that names every bad field of the request."""
    bad = list(choice_violations(request.scorer, (SCORER,), "scorer"))
    if not 1 <= len(request.answers) <= MAX_ANSWERS:
        count = len(request.answers)
        bad.append(Violation("answers", f"has {count} answers; give at least 1 and at most {MAX_ANSWERS}."))
    for index, answer in enumerate(request.answers[:MAX_ANSWERS]):
        field = f"answers[{index}]"
        if not answer.expected_answer.strip():
            bad.append(Violation(f"{field}.expected_answer", "is empty; give the answer that is right."))
        bad += choice_violations(answer.answer_type, ANSWER_TYPES, f"{field}.answer_type")
        bad += choice_violations(answer.finish_reason, ("stop", "length"), f"{field}.finish_reason")
    _refuse(bad)


def _refuse(violations: list[Violation]) -> None:
    if violations:
        raise InvalidArgument(violations)
