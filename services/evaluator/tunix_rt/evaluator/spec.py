"""Checks and completes what evaluations and generations are asked for; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tunix_rt.answers.equivalence import ANSWER_TYPES
from tunix_rt.answers.pattern import check_pattern
from tunix_rt.answers.score import SCORER
from tunix_rt.evaluator.messages import Decoding
from tunix_rt.jobs.evaluation_spec import (
    SUBJECTS,
    choice_violations,
    complete_evaluation,
    decoding_violations,
    evaluation_violations,
    generated_violations,
    is_imported,
    seed_violations,
    system_prompt_violations,
    unused_decoding,
    unused_settings,
)
from tunix_rt.jobs.judge_spec import CALIBRATION_METHOD, judge_violations, no_calibration_violations
from tunix_rt.judges.requests import JUDGE_SCORER, JUDGINGS
from tunix_rt.lm.layout import WEIGHT_TYPES
from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.rpc.names import DATASET, MODEL, MODEL_ALIAS, PREDICTOR, check, check_any, check_id
from tunix_rt.traces.text import FORMATS
from tunix_rt.v1 import evaluation_pb2, evaluator_service_pb2

MAX_PROMPTS = 64
MAX_PROMPT_SAMPLES = 16
MAX_OUTPUTS = 64
MAX_ANSWERS = 10_000
BARE_FORMAT = "none"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
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


def check_create(
    request: evaluator_service_pb2.CreateEvaluationRequest, differing: Sequence[Violation] = ()
) -> None:
    """Raises InvalidArgument that names every bad field of the request, and what differs from its task."""
    bad = [*differing, *_new_evaluation_violations(request)]
    bad += generated_violations(request.evaluation.spec, "evaluation.spec")
    bad += no_calibration_violations(request.evaluation.spec, "evaluation.spec")
    _refuse(bad)


def check_import(
    first: evaluator_service_pb2.ScorePredictionsRequest, differing: Sequence[Violation] = ()
) -> None:
    """Raises InvalidArgument that names every bad field of the first message, its predictions apart.

    `differing` are unknown fields, and what differs from its task.
    """
    bad = [*differing, *_new_evaluation_violations(first)]
    if first.request_id and not _UUID.fullmatch(first.request_id):
        bad.append(Violation("request_id", f"is `{first.request_id[:80]}`; it must be a UUID, or empty."))
    spec, field = first.evaluation.spec, "evaluation.spec"
    if spec.subject and not is_imported(spec):
        text = f"is `{spec.subject[:200]}`; predictions are of `{PREDICTOR}`. Evaluate others anew."
        bad.append(Violation(f"{field}.subject", text))
    if spec.method not in ("", "generation"):
        text = f"is `{spec.method[:80]}`; outputs that were made elsewhere are only of `generation`."
        bad.append(Violation(f"{field}.method", text))
    if spec.allow_contamination:
        text = "has no effect: what a predictor was trained on is not known. Leave it out."
        bad.append(Violation(f"{field}.allow_contamination", text))
    if spec.scorer == JUDGE_SCORER:
        text = f"is `{spec.scorer}`, but no judge looks at imported predictions. Leave it out."
        bad.append(Violation(f"{field}.scorer", text))
    unread = {descriptor.name for descriptor, _ in spec.ListFields()} & {"predictions", "judge"}
    unread = {name for name in unread if all(each.field != f"{field}.{name}" for each in bad)}
    for name in sorted(unread):
        text = "is output only" if name == "predictions" else "has no effect on imported predictions"
        bad.append(Violation(f"{field}.{name}", f"{text}; leave it out."))
    _refuse(bad)


def check_next_message(message: evaluator_service_pb2.ScorePredictionsRequest) -> None:
    """Raises InvalidArgument for fields that only the first message of a stream may have."""
    given = [name for name in ("evaluation_id", "request_id") if getattr(message, name)]
    given += ["evaluation"] if message.HasField("evaluation") else []
    _refuse([Violation(name, "is set again; give it in the first message only.") for name in given])


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
    bad = [check_any(request.subject, (*SUBJECTS, MODEL_ALIAS, MODEL), "subject")]
    if not 1 <= len(request.prompts) <= MAX_PROMPTS:
        count = len(request.prompts)
        bad.append(Violation("prompts", f"has {count} prompts; give at least 1 and at most {MAX_PROMPTS}."))
    for index, prompt in enumerate(request.prompts[:MAX_PROMPTS]):
        if not prompt.strip():
            bad.append(Violation(f"prompts[{index}]", "is empty; give a question."))
    bad += _samples_violations(request)
    bad += decoding_violations(request.decoding, "decoding")
    bad += unused_settings(request.decoding, "decoding")
    bad += choice_violations(request.format, (*FORMATS, BARE_FORMAT), "format")
    bad += system_prompt_violations(request.system_prompt, "system_prompt")
    bad += choice_violations(request.weight_type, WEIGHT_TYPES, "weight_type")
    _refuse([each for each in bad if each])


def _samples_violations(request: evaluator_service_pb2.GenerateRequest) -> Iterator[Violation]:
    count, outputs = request.samples, request.samples * len(request.prompts)
    if not 0 <= count <= MAX_PROMPT_SAMPLES:
        yield Violation("samples", f"is {count}; it must be in [1, {MAX_PROMPT_SAMPLES}], or 0 for 1.")
    elif count > 1 and request.decoding.temperature == 0:
        text = f"is {count}, but at temperature 0 all samples are the same. Set a temperature."
        yield Violation("samples", text)
    elif len(request.prompts) <= MAX_PROMPTS and outputs > MAX_OUTPUTS:
        text = f"is {count} of {len(request.prompts)} prompts, {outputs} in all; at most {MAX_OUTPUTS} fit."
        yield Violation("samples", text)


def check_answers(request: evaluator_service_pb2.ScoreAnswersRequest) -> None:
    """Raises InvalidArgument that names every bad field of the request."""
    bad = list(choice_violations(request.scorer, (SCORER,), "scorer"))
    bad += choice_violations(request.format, FORMATS, "format")
    if request.answer_pattern and (fault := check_pattern(request.answer_pattern)):
        bad.append(Violation("answer_pattern", fault))
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


def _new_evaluation_violations(
    request: evaluator_service_pb2.CreateEvaluationRequest | evaluator_service_pb2.ScorePredictionsRequest,
) -> list[Violation]:
    """What is wrong with the id, the fields and the spec of an evaluation that is to be made."""
    bad = [check_id(request.evaluation_id, "evaluation_id")]
    for descriptor, _ in request.evaluation.ListFields():
        if descriptor.name in _OUTPUT_ONLY:
            bad.append(Violation(f"evaluation.{descriptor.name}", "is output only; leave it out."))
    spec, field = request.evaluation.spec, "evaluation.spec"
    bad += [*evaluation_violations(spec, field), *unused_decoding(spec, f"{field}.decoding")]
    return [each for each in bad if each]


def _refuse(violations: list[Violation]) -> None:
    if violations:
        raise InvalidArgument(violations)
