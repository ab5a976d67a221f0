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
from tunix_rt.rpc.names import DATASET, MODEL_VERSION, check, check_id
from tunix_rt.traces.text import DEFAULT_FORMAT, FORMATS
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec
from tunix_rt.v1.run_pb2 import LoraTuning, OptimizerSpec, RunSpec, ShardingSpec

MAX_STEPS = 10_000_000
MAX_EVALUATIONS = 20
MAX_DEVICES = 4096
MAX_PROCESSES = 16
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
    if spec.HasField("sharding"):
        made.sharding.fsdp = spec.sharding.fsdp or 1
        made.sharding.processes = spec.sharding.processes or 1
    _complete_optimizer(made.optimizer)
    for evaluation in made.evaluate_after:
        evaluation.CopyFrom(_follow_up(evaluation, made))
    return made


def violations(spec: RunSpec) -> list[Violation]:
    """Everything that is wrong with a spec, with paths such as `spec.optimizer.learning_rate`."""
    return list(_run_violations(spec))


def _complete_optimizer(optimizer: OptimizerSpec) -> None:
    optimizer.decay = optimizer.decay or OptimizerSpec.COSINE
    for name, default in (("weight_decay", 0.0), ("clip_norm", 1.0), ("beta1", 0.9), ("beta2", 0.999)):
        if not optimizer.HasField(name):  # type: ignore[arg-type]
            setattr(optimizer, name, default)


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
    yield from _some(check(spec.model, MODEL_VERSION, "spec.model"))
    yield from _some(check(spec.dataset, DATASET, "spec.dataset"))
    yield from _some(check_id(spec.train_split, "spec.train_split"))
    yield from _some(check_id(spec.validation_split, "spec.validation_split"))
    if spec.WhichOneof("tuning") == "lora":
        yield from _lora_violations(spec.lora)
    yield from _length_violations(spec)
    yield from _range(spec.batch_size, 1, 4096, "spec.batch_size")
    yield from _range(spec.max_length, 16, 8192, "spec.max_length")
    if spec.HasField("optimizer"):
        yield from _optimizer_violations(spec)
    else:
        yield Violation("spec.optimizer", "is required. Give at least its learning_rate.")
    if spec.validate_every < 0:
        text = f"is {spec.validate_every}; it must be positive, or 0 to turn validation off."
        yield Violation("spec.validate_every", text)
    if spec.checkpoint_every < 0:
        text = f"is {spec.checkpoint_every}; it must be positive, or 0 to save only the last step."
        yield Violation("spec.checkpoint_every", text)
    yield from _sharding_violations(spec.sharding)
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


def _optimizer_violations(spec: RunSpec) -> Iterator[Violation]:
    optimizer, path = spec.optimizer, "spec.optimizer"
    if not 0 < optimizer.learning_rate <= 1:
        text = f"is {optimizer.learning_rate:g}; it must be in (0, 1]."
        yield Violation(f"{path}.learning_rate", text)
    if optimizer.warmup_steps < 0:
        yield Violation(f"{path}.warmup_steps", f"is {optimizer.warmup_steps}; it must not be negative.")
    elif spec.steps > 0 and optimizer.warmup_steps >= spec.steps:
        text = f"is {optimizer.warmup_steps}; it must be less than spec.steps, which is {spec.steps}."
        yield Violation(f"{path}.warmup_steps", text)
    if optimizer.decay not in OptimizerSpec.Decay.values():
        text = f"is {optimizer.decay}; it must be COSINE, LINEAR or CONSTANT."
        yield Violation(f"{path}.decay", text)
    if not 0 <= optimizer.weight_decay <= 1:
        yield Violation(f"{path}.weight_decay", f"is {optimizer.weight_decay:g}; it must be in [0, 1].")
    if not (math.isfinite(optimizer.clip_norm) and optimizer.clip_norm >= 0):
        text = f"is {optimizer.clip_norm:g}; it must be positive, or 0 to turn clipping off."
        yield Violation(f"{path}.clip_norm", text)
    for name, value in (("beta1", optimizer.beta1), ("beta2", optimizer.beta2)):
        if not 0 <= value < 1:
            yield Violation(f"{path}.{name}", f"is {value:g}; it must be in [0, 1).")


def _sharding_violations(sharding: ShardingSpec) -> Iterator[Violation]:
    path = "spec.sharding"
    for name, value, zero in (("data", sharding.data, "all that fsdp leaves"), ("fsdp", sharding.fsdp, "1")):
        if not 0 <= value <= MAX_DEVICES:
            yield Violation(
                f"{path}.{name}", f"is {value}; it must be in [1, {MAX_DEVICES}], or 0 for {zero}."
            )
    if not 0 <= sharding.processes <= MAX_PROCESSES:
        text = f"is {sharding.processes}; it must be in [1, {MAX_PROCESSES}], or 0 for 1."
        yield Violation(f"{path}.processes", text)


def _some(violation: Violation | None) -> list[Violation]:
    return [violation] if violation else []


def _range(value: int, low: int, high: int, path: str) -> list[Violation]:
    if low <= value <= high:
        return []
    return [Violation(path, f"is {value}; it must be in [{low}, {high}].")]
