"""The rules and defaults of an evaluation's spec, which three services share; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tunix_rt.answers.pattern import check_pattern
from tunix_rt.answers.score import SCORER
from tunix_rt.jobs.judge_spec import (
    CALIBRATION_METHOD,
    JUDGES,
    is_calibration,
    judging_violations,
    no_calibration_violations,
)
from tunix_rt.judges.requests import JUDGE_SCORER
from tunix_rt.lm.layout import WEIGHT_TYPES
from tunix_rt.rpc.errors import Violation
from tunix_rt.rpc.names import (
    DATASET,
    MODEL,
    MODEL_ALIAS,
    MODEL_VERSION,
    PREDICTOR,
    RUN,
    TASK_VERSION,
    check,
    check_any,
    check_id,
    matches,
)
from tunix_rt.traces.choices import NORMALIZATIONS
from tunix_rt.traces.text import DEFAULT_FORMAT, FORMATS, QUESTION, template_faults
from tunix_rt.v1.evaluation_pb2 import Decoding, EvaluationSpec, FewShot

DEFAULT_SPLIT = "test"
DEFAULT_EXAMPLE_SPLIT = "train"
DEFAULT_MAX_TOKENS = 256
MAX_TOKENS = 4096
MAX_SYSTEM_PROMPT = 16_384
MAX_SAMPLES = 64
MAX_EXAMPLES = 32
MAX_STOPS = 8
MAX_STOP = 100
MAX_REPETITION_PENALTY = 10
SUBJECTS = (MODEL_VERSION, RUN)
EVALUATED = (*SUBJECTS, PREDICTOR)
NOT_OF_TASKS = ("subject", "allow_contamination", "predictions", "task")
GENERATION, MULTIPLE_CHOICE, PERPLEXITY = ("generation", "multiple-choice", "perplexity")
METHODS = (GENERATION, MULTIPLE_CHOICE, PERPLEXITY, CALIBRATION_METHOD)
FLOAT32 = WEIGHT_TYPES[0]


def complete_evaluation(spec: EvaluationSpec) -> EvaluationSpec:
    """The spec with its defaults filled in, so that equal specs have equal bytes."""
    made = EvaluationSpec()
    made.CopyFrom(spec)
    made.split = spec.split or DEFAULT_SPLIT
    made.format = spec.format or DEFAULT_FORMAT
    made.samples = spec.samples or 1
    made.prompt_template = "" if spec.prompt_template == QUESTION else spec.prompt_template
    made.weight_type = spec.weight_type or FLOAT32
    made.method = spec.method or GENERATION
    if made.method in (MULTIPLE_CHOICE, PERPLEXITY):
        made.ClearField("decoding")
    else:
        made.scorer = spec.scorer or SCORER
        made.decoding.CopyFrom(complete_decoding(spec.decoding))
    if made.method == MULTIPLE_CHOICE:
        made.normalization = spec.normalization or NORMALIZATIONS[0]
    if spec.HasField("few_shot"):
        made.few_shot.split = spec.few_shot.split or DEFAULT_EXAMPLE_SPLIT
    return made


def complete_decoding(decoding: Decoding) -> Decoding:
    """The decoding with its defaults filled in."""
    made = Decoding()
    made.CopyFrom(decoding)
    made.max_tokens = decoding.max_tokens or DEFAULT_MAX_TOKENS
    made.top_p = decoding.top_p or 1.0
    made.repetition_penalty = decoding.repetition_penalty or 1.0
    return made


def evaluation_violations(spec: EvaluationSpec, field: str) -> Iterator[Violation]:
    """What is wrong with a spec whose subject and dataset are given; `field` is its path.

    The subject may be a model or an alias, in whose place the version is stored.
    """
    patterns = (*subject_patterns(spec), MODEL_ALIAS, MODEL)
    yield from _some(check_any(spec.subject, patterns, f"{field}.subject"))
    if spec.dataset or not spec.task:
        yield from _some(check(spec.dataset, DATASET, f"{field}.dataset"))
    if spec.task:
        yield from _some(check(spec.task, TASK_VERSION, f"{field}.task"))
    yield from _shared_violations(spec, field)


def generated_violations(spec: EvaluationSpec, field: str) -> Iterator[Violation]:
    """What is wrong with the spec of a new evaluation that generates its outputs."""
    if is_imported(spec):
        text = f"is `{spec.subject[:200]}`, which has no weights. Send its outputs with `ScorePredictions`."
        yield Violation(f"{field}.subject", text)
    if spec.predictions:
        yield Violation(f"{field}.predictions", "is output only; leave it out.")


def is_imported(spec: EvaluationSpec) -> bool:
    """Whether the outputs of the evaluation were made elsewhere."""
    return matches(spec.subject, PREDICTOR)


def subject_patterns(spec: EvaluationSpec) -> tuple[str, ...]:
    """The forms of name that the subject may have: a calibration's is a judge."""
    return JUDGES if is_calibration(spec) else EVALUATED


def follow_up_violations(spec: EvaluationSpec, field: str) -> Iterator[Violation]:
    """What is wrong with a spec in `evaluate_after`: its subject is the run, its dataset may be the run's."""
    if spec.subject:
        yield Violation(
            f"{field}.subject", f"is `{spec.subject[:200]}`; leave it empty: it is the run itself."
        )
    if spec.dataset:
        yield from _some(check(spec.dataset, DATASET, f"{field}.dataset"))
    if spec.task:
        yield from _some(check(spec.task, TASK_VERSION, f"{field}.task"))
    if spec.predictions:
        yield Violation(f"{field}.predictions", "is output only; leave it out.")
    yield from _shared_violations(spec, field)
    yield from no_calibration_violations(spec, field)
    yield from unused_decoding(spec, f"{field}.decoding")


def task_violations(spec: EvaluationSpec, field: str) -> Iterator[Violation]:
    """What is wrong with the spec of a task: all rules hold but that it says nothing of a subject."""
    for name in NOT_OF_TASKS:
        if getattr(spec, name):
            text = "is set; a task does not say this. Leave it out, and give it with the evaluation."
            yield Violation(f"{field}.{name}", text)
    yield from _some(check(spec.dataset, DATASET, f"{field}.dataset"))
    yield from _shared_violations(spec, field)
    yield from no_calibration_violations(spec, field)
    yield from unused_decoding(spec, f"{field}.decoding")


def decoding_violations(decoding: Decoding, field: str) -> Iterator[Violation]:
    """What is wrong with a decoding; settings without effect pass."""
    if not 0 <= decoding.max_tokens <= MAX_TOKENS:
        text = f"is {decoding.max_tokens}; it must be in [1, {MAX_TOKENS}], or 0 for {DEFAULT_MAX_TOKENS}."
        yield Violation(f"{field}.max_tokens", text)
    if not (math.isfinite(decoding.temperature) and 0 <= decoding.temperature <= 10):
        text = f"is {decoding.temperature:g}; it must be in [0, 10], where 0 is greedy."
        yield Violation(f"{field}.temperature", text)
    if decoding.top_k < 0:
        text = f"is {decoding.top_k}; it must be positive, or 0 for all tokens."
        yield Violation(f"{field}.top_k", text)
    if not (math.isfinite(decoding.top_p) and 0 <= decoding.top_p <= 1):
        yield Violation(f"{field}.top_p", f"is {decoding.top_p:g}; it must be in (0, 1], or 0 for 1.")
    yield from seed_violations(decoding.seed, f"{field}.seed")
    if not (math.isfinite(decoding.min_p) and 0 <= decoding.min_p <= 1):
        yield Violation(f"{field}.min_p", f"is {decoding.min_p:g}; it must be in [0, 1], where 0 is off.")
    penalty = decoding.repetition_penalty
    if not (penalty == 0 or (math.isfinite(penalty) and 1 <= penalty <= MAX_REPETITION_PENALTY)):
        text = f"is {penalty:g}; it must be in [1, {MAX_REPETITION_PENALTY}], or 0 for 1, which is off."
        yield Violation(f"{field}.repetition_penalty", text)
    if len(decoding.stop) > MAX_STOPS:
        yield Violation(f"{field}.stop", f"has {len(decoding.stop)} texts; at most {MAX_STOPS} are allowed.")
    for index, stop in enumerate(decoding.stop[:MAX_STOPS]):
        if not 1 <= len(stop) <= MAX_STOP:
            text = f"has {len(stop)} characters; it must have 1 to {MAX_STOP}."
            yield Violation(f"{field}.stop[{index}]", text)


def unused_settings(decoding: Decoding, field: str) -> Iterator[Violation]:
    """The settings of a decoding that would have no effect; a new request with one is refused."""
    if decoding.temperature != 0:
        return
    unused = {
        "top_k": decoding.top_k > 0,
        "top_p": 0 < decoding.top_p < 1,
        "min_p": 0 < decoding.min_p <= 1,
        "seed": 0 < decoding.seed < 2**31,
    }
    for name in (name for name, given in unused.items() if given):
        text = f"is {getattr(decoding, name)}, but has no effect at temperature 0. Set a temperature."
        yield Violation(f"{field}.{name}", text)


def unused_decoding(spec: EvaluationSpec, field: str) -> Iterator[Violation]:
    """As `unused_settings`; with a method that does not generate, every setting is refused elsewhere."""
    if spec.method not in (MULTIPLE_CHOICE, PERPLEXITY):
        yield from unused_settings(spec.decoding, field)


def choice_violations(value: str, known: tuple[str, ...], field: str) -> Iterator[Violation]:
    """What is wrong with a name that must be one of those known, or empty."""
    if value and value not in known:
        yield Violation(field, f"is `{value[:200]}`; it must be one of {', '.join(known)}, or empty.")


def system_prompt_violations(value: str, field: str) -> Iterator[Violation]:
    """What is wrong with a system prompt."""
    if len(value) > MAX_SYSTEM_PROMPT:
        text = f"has {len(value)} characters; it must have at most {MAX_SYSTEM_PROMPT}."
        yield Violation(field, text)


def _shared_violations(spec: EvaluationSpec, field: str) -> Iterator[Violation]:
    yield from _some(check_id(spec.split, f"{field}.split"))
    yield from decoding_violations(spec.decoding, f"{field}.decoding")
    yield from choice_violations(spec.format, FORMATS, f"{field}.format")
    yield from system_prompt_violations(spec.system_prompt, f"{field}.system_prompt")
    yield from choice_violations(spec.scorer, (SCORER, JUDGE_SCORER), f"{field}.scorer")
    yield from judging_violations(spec, field)
    if spec.limit < 0:
        yield Violation(f"{field}.limit", f"is {spec.limit}; it must be positive, or 0 for all items.")
    if not 0 <= spec.samples <= MAX_SAMPLES:
        text = f"is {spec.samples}; it must be in [1, {MAX_SAMPLES}], or 0 for 1."
        yield Violation(f"{field}.samples", text)
    elif spec.samples > 1 and spec.decoding.temperature == 0 and not is_calibration(spec):
        text = f"is {spec.samples}, but at temperature 0 all samples are the same. Set a temperature."
        yield Violation(f"{field}.samples", text)
    if spec.answer_pattern and (fault := check_pattern(spec.answer_pattern)):
        yield Violation(f"{field}.answer_pattern", fault)
    if spec.prompt_template:
        for fault in template_faults(spec.prompt_template):
            yield Violation(f"{field}.prompt_template", fault)
    yield from choice_violations(spec.method, METHODS, f"{field}.method")
    yield from choice_violations(spec.normalization, NORMALIZATIONS, f"{field}.normalization")
    yield from choice_violations(spec.weight_type, WEIGHT_TYPES, f"{field}.weight_type")
    yield from _idle_violations(spec, field)
    if spec.HasField("few_shot"):
        yield from _few_shot_violations(spec.few_shot, spec.split or DEFAULT_SPLIT, f"{field}.few_shot")


def _idle_violations(spec: EvaluationSpec, field: str) -> Iterator[Violation]:
    """The settings that would have no effect with the method."""
    method = spec.method or GENERATION
    idle: dict[str, bool] = {}
    if method != MULTIPLE_CHOICE:
        idle["normalization"] = bool(spec.normalization)
    if method in (MULTIPLE_CHOICE, PERPLEXITY):
        idle |= {f"decoding.{setting.name}": True for setting, _ in spec.decoding.ListFields()}
        idle["samples"] = spec.samples > 1
        idle["answer_pattern"] = bool(spec.answer_pattern)
        idle["scorer"] = bool(spec.scorer)
    if method == PERPLEXITY:
        idle["few_shot"] = spec.HasField("few_shot")
    for name in (name for name, given in idle.items() if given):
        yield Violation(f"{field}.{name}", f"is set, but has no effect with method `{method}`; leave it out.")


def _few_shot_violations(few_shot: FewShot, evaluated: str, field: str) -> Iterator[Violation]:
    if not 1 <= few_shot.count <= MAX_EXAMPLES:
        yield Violation(f"{field}.count", f"is {few_shot.count}; it must be in [1, {MAX_EXAMPLES}].")
    yield from _some(check_id(few_shot.split, f"{field}.split"))
    split = few_shot.split or DEFAULT_EXAMPLE_SPLIT
    if split == evaluated:
        text = f"is `{split[:80]}`, the split that is evaluated; draw the examples from another one."
        yield Violation(f"{field}.split", text)
    yield from seed_violations(few_shot.seed, f"{field}.seed")


def seed_violations(seed: int, field: str) -> Iterator[Violation]:
    """What is wrong with a seed."""
    if not 0 <= seed < 2**31:
        yield Violation(field, f"is {seed}; it must be in [0, 2147483647].")


def _some(violation: Violation | None) -> list[Violation]:
    return [violation] if violation else []
