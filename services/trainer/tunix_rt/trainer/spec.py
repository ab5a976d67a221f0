"""Checks and completes the spec of a run; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tunix_rt.jobs.evaluation_spec import (
    choice_violations,
    complete_evaluation,
    follow_up_violations,
    system_prompt_violations,
)
from tunix_rt.rpc.errors import Violation
from tunix_rt.rpc.names import DATASET, MODEL, MODEL_ALIAS, MODEL_VERSION, check, check_any, check_id
from tunix_rt.traces.text import DEFAULT_FORMAT, FORMATS
from tunix_rt.trainer.optimizer_spec import complete_optimizer, optimizer_violations
from tunix_rt.trainer.retention import BEST_METRICS
from tunix_rt.trainer.row_spec import complete_rows, row_violations
from tunix_rt.trainer.sharding_spec import complete_sharding, sharding_violations
from tunix_rt.trainer.shown_spec import complete_shown, shown_violations
from tunix_rt.trainer.stopping import STOPPING_METRICS
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec
from tunix_rt.v1.run_pb2 import LoraTuning, RunSpec

MAX_STEPS = 10_000_000
MAX_EVALUATIONS = 20
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def complete(spec: RunSpec) -> RunSpec:
    """The spec with its defaults filled in; it must have no violations.

    `validate_every` stays absent beside `epochs`, where the steps are not known yet.
    """
    made = RunSpec()
    made.CopyFrom(spec)
    made.train_split = spec.train_split or "train"
    made.validation_split = spec.validation_split or "validation"
    made.format = spec.format or DEFAULT_FORMAT
    if spec.WhichOneof("tuning") == "lora":
        made.lora.rank = spec.lora.rank or 16
        made.lora.alpha = spec.lora.alpha or 2.0 * made.lora.rank
        made.lora.targets[:] = spec.lora.targets or TARGETS
    else:
        made.full.SetInParent()
    if not spec.HasField("validate_every") and spec.steps:
        made.validate_every = max(1, spec.steps // 10)
    complete_shown(made, steps=spec.steps)
    complete_optimizer(made.optimizer, steps=spec.steps)
    made.micro_batch_size = spec.micro_batch_size or spec.batch_size
    made.compute_type = spec.compute_type or RunSpec.FLOAT32
    if spec.HasField("early_stopping"):
        made.early_stopping.metric = spec.early_stopping.metric or STOPPING_METRICS[0]
    made.retention.keep_last = spec.retention.keep_last or 1
    complete_rows(made)
    complete_sharding(made)
    for evaluation in made.evaluate_after:
        evaluation.CopyFrom(_follow_up(evaluation, made))
    return made


def violations(spec: RunSpec) -> list[Violation]:
    """Everything that is wrong with a spec, with paths such as `spec.optimizer.learning_rate`."""
    return list(_run_violations(spec))


def _follow_up(evaluation: EvaluationSpec, run: RunSpec) -> EvaluationSpec:
    """An evaluation of the run: on its dataset and with its prompt, unless it or its task says otherwise."""
    made = EvaluationSpec()
    made.CopyFrom(evaluation)
    if made.task:
        return complete_evaluation(made)
    made.dataset = evaluation.dataset or run.dataset
    made.format = evaluation.format or run.format
    made.system_prompt = evaluation.system_prompt or run.system_prompt
    return complete_evaluation(made)


def _run_violations(spec: RunSpec) -> Iterator[Violation]:
    yield from _some(check_any(spec.model, (MODEL_VERSION, MODEL_ALIAS, MODEL), "spec.model"))
    yield from _some(check(spec.dataset, DATASET, "spec.dataset"))
    yield from _some(check_id(spec.train_split, "spec.train_split"))
    yield from _some(check_id(spec.validation_split, "spec.validation_split"))
    if spec.WhichOneof("tuning") == "lora":
        yield from _lora_violations(spec.lora)
    yield from _length_violations(spec)
    yield from _range(spec.batch_size, 1, 4096, "spec.batch_size")
    yield from _computing_violations(spec)
    yield from _range(spec.max_length, 16, 8192, "spec.max_length")
    if spec.HasField("optimizer"):
        yield from optimizer_violations(spec.optimizer, steps=spec.steps)
    else:
        yield Violation("spec.optimizer", "is required. Give at least its learning_rate.")
    if spec.validate_every < 0:
        text = f"is {spec.validate_every}; it must be positive, or 0 to turn validation off."
        yield Violation("spec.validate_every", text)
    if spec.checkpoint_every < 0:
        text = f"is {spec.checkpoint_every}; it must be positive, or 0 to save only the last step."
        yield Violation("spec.checkpoint_every", text)
    yield from shown_violations(spec)
    if spec.HasField("early_stopping"):
        yield from _stopping_violations(spec)
    yield from _retention_violations(spec)
    yield from row_violations(spec)
    yield from sharding_violations(spec.sharding)
    yield from choice_violations(spec.format, FORMATS, "spec.format")
    yield from system_prompt_violations(spec.system_prompt, "spec.system_prompt")
    if len(spec.evaluate_after) > MAX_EVALUATIONS:
        text = f"has {len(spec.evaluate_after)} evaluations; at most {MAX_EVALUATIONS} are allowed."
        yield Violation("spec.evaluate_after", text)
    for index, evaluation in enumerate(spec.evaluate_after[:MAX_EVALUATIONS]):
        yield from follow_up_violations(evaluation, f"spec.evaluate_after[{index}]")


def _length_violations(spec: RunSpec) -> Iterator[Violation]:
    if spec.steps and spec.epochs:
        text = f"is {spec.steps} while epochs is {spec.epochs:g}; set exactly one of them."
        yield Violation("spec.steps", text)
    elif not spec.epochs:
        if not 1 <= spec.steps <= MAX_STEPS:
            text = f"is {spec.steps}; it must be in [1, {MAX_STEPS}], unless epochs is set."
            yield Violation("spec.steps", text)
    elif not 0 < spec.epochs <= 1000:
        yield Violation("spec.epochs", f"is {spec.epochs:g}; it must be in (0, 1000].")


def _retention_violations(spec: RunSpec) -> Iterator[Violation]:
    retention, path = spec.retention, "spec.retention"
    if not 0 <= retention.keep_last <= 100:
        text = f"is {retention.keep_last}; it must be in [1, 100], or 0 for 1."
        yield Violation(f"{path}.keep_last", text)
    if retention.keep_every < 0:
        text = f"is {retention.keep_every}; it must be positive, or 0 to keep none for its step."
        yield Violation(f"{path}.keep_every", text)
    elif retention.keep_every and not spec.checkpoint_every:
        text = f"is {retention.keep_every}, but only the last step is saved; set checkpoint_every."
        yield Violation(f"{path}.keep_every", text)
    if retention.best_metric:
        yield from choice_violations(retention.best_metric, tuple(BEST_METRICS), f"{path}.best_metric")
        if spec.HasField("validate_every") and spec.validate_every == 0:
            text = f"is `{retention.best_metric[:80]}`, but validate_every is 0; turn validation on."
            yield Violation(f"{path}.best_metric", text)


def _lora_violations(lora: LoraTuning) -> Iterator[Violation]:
    if not 0 <= lora.rank <= 512:
        yield Violation("spec.lora.rank", f"is {lora.rank}; it must be in [1, 512], or 0 for 16.")
    if not (math.isfinite(lora.alpha) and lora.alpha >= 0):
        text = f"is {lora.alpha:g}; it must be positive, or 0 for twice the rank."
        yield Violation("spec.lora.alpha", text)
    unknown = [target for target in lora.targets if target not in TARGETS]
    if unknown:
        text = f"names `{unknown[0][:100]}`; it may name {', '.join(TARGETS)}."
        yield Violation("spec.lora.targets", text)
    if len(set(lora.targets)) < len(lora.targets):
        yield Violation("spec.lora.targets", "names a projection twice; name each once.")
    if not 0 <= lora.dropout < 1:
        yield Violation("spec.lora.dropout", f"is {lora.dropout:g}; it must be in [0, 1).")


def _computing_violations(spec: RunSpec) -> Iterator[Violation]:
    if not 0 <= spec.micro_batch_size <= max(spec.batch_size, 0):
        text = f"is {spec.micro_batch_size}; it must be in [1, {spec.batch_size}], or 0 for batch_size."
        yield Violation("spec.micro_batch_size", text)
    if spec.compute_type not in RunSpec.ComputeType.values():
        text = f"is {spec.compute_type}; it must be FLOAT32 or BFLOAT16."
        yield Violation("spec.compute_type", text)
    if not 0 <= spec.ema_decay < 1:
        yield Violation("spec.ema_decay", f"is {spec.ema_decay:g}; it must be in [0, 1), or 0 for none.")


def _stopping_violations(spec: RunSpec) -> Iterator[Violation]:
    stopping, path = spec.early_stopping, "spec.early_stopping"
    if spec.HasField("validate_every") and spec.validate_every == 0:
        text = "needs validations, which validate_every turns off with 0; set it, or leave this out."
        yield Violation(path, text)
    yield from choice_violations(stopping.metric, STOPPING_METRICS, f"{path}.metric")
    if stopping.patience < 1:
        yield Violation(f"{path}.patience", f"is {stopping.patience}; it must be positive.")
    if not (math.isfinite(stopping.min_delta) and stopping.min_delta >= 0):
        yield Violation(f"{path}.min_delta", f"is {stopping.min_delta:g}; it must not be negative.")


def _some(violation: Violation | None) -> list[Violation]:
    return [violation] if violation else []


def _range(value: int, low: int, high: int, path: str) -> list[Violation]:
    if low <= value <= high:
        return []
    return [Violation(path, f"is {value}; it must be in [{low}, {high}].")]
