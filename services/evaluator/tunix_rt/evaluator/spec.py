"""Checks and completes what evaluations and generations are asked for; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tunix_rt.answers.equivalence import ANSWER_TYPES
from tunix_rt.answers.score import SCORER
from tunix_rt.evaluator.messages import Decoding
from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.rpc.names import DATASET, MODEL_VERSION, RUN, check, check_any, check_id
from tunix_rt.traces.text import DEFAULT_FORMAT, FORMATS
from tunix_rt.v1 import evaluation_pb2, evaluator_service_pb2

MAX_TOKENS = 4096
MAX_PROMPTS = 64
MAX_ANSWERS = 10_000
MAX_SYSTEM_PROMPT = 16_384
BARE_FORMAT = "none"
_SUBJECTS = (MODEL_VERSION, RUN)
_OUTPUT_ONLY = ("name", "status", "run", "dataset_sha256", "weights_digest", "result")


def complete_spec(
    spec: evaluation_pb2.EvaluationSpec, field: str = "evaluation.spec"
) -> evaluation_pb2.EvaluationSpec:
    """The spec with its defaults filled in.

    Raises InvalidArgument that names every field which cannot be used; settings without effect pass.
    """
    _refuse(spec_violations(spec, field))
    made = evaluation_pb2.EvaluationSpec()
    made.CopyFrom(spec)
    made.split = spec.split or "test"
    made.format = spec.format or DEFAULT_FORMAT
    made.scorer = spec.scorer or SCORER
    made.decoding.CopyFrom(complete_decoding(spec.decoding))
    return made


def complete_decoding(decoding: evaluation_pb2.Decoding) -> evaluation_pb2.Decoding:
    """The decoding with its defaults filled in."""
    made = evaluation_pb2.Decoding()
    made.CopyFrom(decoding)
    made.max_tokens = decoding.max_tokens or 256
    made.top_p = decoding.top_p or 1.0
    return made


def engine_decoding(decoding: evaluation_pb2.Decoding) -> Decoding:
    """A complete decoding as the engine takes it."""
    return Decoding(
        max_tokens=decoding.max_tokens,
        temperature=decoding.temperature,
        top_k=decoding.top_k,
        top_p=decoding.top_p,
        seed=decoding.seed,
    )


def check_create(request: evaluator_service_pb2.CreateEvaluationRequest) -> None:
    """Raises InvalidArgument that names every bad field of the request."""
    bad = [check_id(request.evaluation_id, "evaluation_id")]
    for descriptor, _ in request.evaluation.ListFields():
        if descriptor.name in _OUTPUT_ONLY:
            bad.append(Violation(f"evaluation.{descriptor.name}", "is output only; leave it out."))
    spec, field = request.evaluation.spec, "evaluation.spec"
    bad += [*spec_violations(spec, field), *unused_settings(spec.decoding, f"{field}.decoding")]
    _refuse([each for each in bad if each])


def check_generate(request: evaluator_service_pb2.GenerateRequest) -> None:
    """Raises InvalidArgument that names every bad field of the request."""
    bad = [check_any(request.subject, _SUBJECTS, "subject")]
    if not 1 <= len(request.prompts) <= MAX_PROMPTS:
        count = len(request.prompts)
        bad.append(Violation("prompts", f"has {count} prompts; give at least 1 and at most {MAX_PROMPTS}."))
    for index, prompt in enumerate(request.prompts[:MAX_PROMPTS]):
        if not prompt.strip():
            bad.append(Violation(f"prompts[{index}]", "is empty; give a question."))
    bad += decoding_violations(request.decoding, "decoding")
    bad += unused_settings(request.decoding, "decoding")
    bad.append(_one_of(request.format, (*FORMATS, BARE_FORMAT), "format"))
    bad.append(_system_prompt(request.system_prompt, "system_prompt"))
    _refuse([each for each in bad if each])


def check_answers(request: evaluator_service_pb2.ScoreAnswersRequest) -> None:
    """Raises InvalidArgument that names every bad field of the request."""
    bad = [_one_of(request.scorer, (SCORER,), "scorer")]
    if not 1 <= len(request.answers) <= MAX_ANSWERS:
        count = len(request.answers)
        bad.append(Violation("answers", f"has {count} answers; give at least 1 and at most {MAX_ANSWERS}."))
    for index, answer in enumerate(request.answers[:MAX_ANSWERS]):
        field = f"answers[{index}]"
        if not answer.expected_answer.strip():
            bad.append(Violation(f"{field}.expected_answer", "is empty; give the answer that is right."))
        bad.append(_one_of(answer.answer_type, ANSWER_TYPES, f"{field}.answer_type"))
        bad.append(_one_of(answer.finish_reason, ("stop", "length"), f"{field}.finish_reason"))
    _refuse([each for each in bad if each])


def spec_violations(spec: evaluation_pb2.EvaluationSpec, field: str) -> list[Violation]:
    """What is wrong with a spec."""
    bad = [
        check_any(spec.subject, _SUBJECTS, f"{field}.subject"),
        check(spec.dataset, DATASET, f"{field}.dataset"),
        check_id(spec.split, f"{field}.split"),
        *decoding_violations(spec.decoding, f"{field}.decoding"),
        _one_of(spec.format, FORMATS, f"{field}.format"),
        _system_prompt(spec.system_prompt, f"{field}.system_prompt"),
        _one_of(spec.scorer, (SCORER,), f"{field}.scorer"),
    ]
    if spec.limit < 0:
        bad.append(Violation(f"{field}.limit", f"is {spec.limit}; it must be positive, or 0 for all items."))
    return [each for each in bad if each]


def decoding_violations(decoding: evaluation_pb2.Decoding, field: str) -> Iterator[Violation]:
    """What is wrong with a decoding."""
    if not 0 <= decoding.max_tokens <= MAX_TOKENS:
        text = f"is {decoding.max_tokens}; it must be in [1, {MAX_TOKENS}], or 0 for 256."
        yield Violation(f"{field}.max_tokens", text)
    if not (math.isfinite(decoding.temperature) and 0 <= decoding.temperature <= 10):
        text = f"is {decoding.temperature}; it must be in [0, 10], where 0 is greedy."
        yield Violation(f"{field}.temperature", text)
    if decoding.top_k < 0:
        text = f"is {decoding.top_k}; it must be positive, or 0 for all tokens."
        yield Violation(f"{field}.top_k", text)
    if not (math.isfinite(decoding.top_p) and 0 <= decoding.top_p <= 1):
        yield Violation(f"{field}.top_p", f"is {decoding.top_p}; it must be in (0, 1], or 0 for 1.")
    if not 0 <= decoding.seed < 2**31:
        yield Violation(f"{field}.seed", f"is {decoding.seed}; it must be in [0, 2147483647].")


def unused_settings(decoding: evaluation_pb2.Decoding, field: str) -> Iterator[Violation]:
    """The settings of a decoding that would have no effect; a new request with one is refused."""
    if decoding.temperature == 0:
        for name, unused in (
            ("top_k", decoding.top_k > 0),
            ("top_p", 0 < decoding.top_p < 1),
            ("seed", 0 < decoding.seed < 2**31),
        ):
            if unused:
                text = (
                    f"is {getattr(decoding, name)}, but at temperature 0 it has no effect. Set a temperature."
                )
                yield Violation(f"{field}.{name}", text)


def _one_of(value: str, known: tuple[str, ...], field: str) -> Violation | None:
    if not value or value in known:
        return None
    return Violation(field, f"is `{value[:200]}`; it must be one of {', '.join(known)}, or empty.")


def _system_prompt(value: str, field: str) -> Violation | None:
    if len(value) <= MAX_SYSTEM_PROMPT:
        return None
    return Violation(field, f"has {len(value)} characters; it must have at most {MAX_SYSTEM_PROMPT}.")


def _refuse(violations: list[Violation]) -> None:
    if violations:
        raise InvalidArgument(violations)
