"""The child's view of a run's spec: `spec.json` read strictly into frozen values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunix_rt.trainer.failure import TrainingFailure

DECAYS = ("COSINE", "LINEAR", "CONSTANT")
MAX_DEVICES = 4096
MAX_PROCESSES = 16


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters; the scale is `alpha / rank`, no targets means every projection."""

    rank: int
    alpha: float
    targets: tuple[str, ...]


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW and its schedule; `clip_norm` 0 turns clipping off."""

    learning_rate: float
    warmup_steps: int
    decay: str
    weight_decay: float
    clip_norm: float
    beta1: float
    beta2: float


@dataclass(frozen=True)
class ShardingSettings:
    """How a run lies on its devices: `data` 0 takes all that `fsdp` leaves."""

    data: int = 0
    fsdp: int = 1
    processes: int = 1


@dataclass(frozen=True)
class TrainSpec:
    """What is trained, on which splits, and how; exactly one of `steps` and `epochs` is not 0.

    `validate_every` None means a tenth of the steps, 0 none; `lora` None means every weight is trained.
    """

    train_split: str
    validation_split: str
    lora: LoraSettings | None
    steps: int
    epochs: float
    batch_size: int
    max_length: int
    optimizer: OptimizerSettings
    seed: int
    validate_every: int | None
    checkpoint_every: int
    format: str
    system_prompt: str
    remat: bool
    sharding: ShardingSettings


def parse_spec(value: object) -> TrainSpec:
    """The spec in the JSON form of `RunSpec`, with its field names and zeros left out.

    Raises TrainingFailure that names every field that is unknown, missing, of a wrong type or out of range.
    """
    reader = _Reader(value, "")
    optimizer = _optimizer(reader.section("optimizer"))
    lora = _lora(reader.section("lora")) if "lora" in reader.left else None
    if "full" in reader.left:
        reader.section("full").finish()
        if lora is not None:
            reader.problems.append("full and lora: only one may be set.")
    for unused in ("model", "dataset", "evaluate_after"):
        reader.left.pop(unused, None)
    spec = TrainSpec(
        train_split=reader.text("train_split", "") or "train",
        validation_split=reader.text("validation_split", "") or "validation",
        lora=lora,
        steps=reader.whole("steps", 0, low=0, high=10_000_000),
        epochs=reader.number("epochs", 0.0, low=0.0, high=1000.0),
        batch_size=reader.whole("batch_size", low=1, high=4096),
        max_length=reader.whole("max_length", low=16, high=8192),
        optimizer=optimizer,
        seed=reader.whole("seed", 0, low=-(2**63), high=2**63 - 1),
        validate_every=reader.whole("validate_every") if "validate_every" in reader.left else None,
        checkpoint_every=reader.whole("checkpoint_every", 0),
        format=reader.choice("format", ("answer-line", "tags"), "answer-line"),
        system_prompt=reader.text("system_prompt", ""),
        remat=reader.flag("remat"),
        sharding=_sharding(reader.section("sharding")),
    )
    if (spec.steps > 0) == (spec.epochs > 0):
        reader.problems.append("steps and epochs: exactly one of them must be set.")
    if 0 < spec.steps <= optimizer.warmup_steps:
        problem = f"is {optimizer.warmup_steps}; it must be less than steps, {spec.steps}."
        reader.problems.append(f"optimizer.warmup_steps: {problem}")
    reader.finish()
    if reader.problems:
        raise TrainingFailure("INVALID_FIELDS", "spec.json: " + " ".join(reader.problems))
    return spec


def _optimizer(reader: _Reader) -> OptimizerSettings:
    decay = reader.choice("decay", (*DECAYS, "DECAY_UNSPECIFIED"), "COSINE")
    settings = OptimizerSettings(
        learning_rate=reader.number("learning_rate", low=0.0, high=1.0, open_low=True),
        warmup_steps=reader.whole("warmup_steps", 0),
        decay="COSINE" if decay == "DECAY_UNSPECIFIED" else decay,
        weight_decay=reader.number("weight_decay", 0.0, low=0.0, high=1.0),
        clip_norm=reader.number("clip_norm", 1.0, low=0.0),
        beta1=reader.number("beta1", 0.9, low=0.0, high=1.0, open_high=True),
        beta2=reader.number("beta2", 0.999, low=0.0, high=1.0, open_high=True),
    )
    reader.finish()
    return settings


def _lora(reader: _Reader) -> LoraSettings:
    rank = reader.whole("rank", 0, high=512) or 16
    alpha = reader.number("alpha", 0.0, low=0.0) or 2.0 * rank
    targets = reader.take("targets", list, [])
    if not all(isinstance(target, str) for target in targets):
        reader.problems.append(f"{reader.path}targets: must be names of projections.")
    reader.finish()
    return LoraSettings(rank=rank, alpha=alpha, targets=tuple(targets))


def _sharding(reader: _Reader) -> ShardingSettings:
    settings = ShardingSettings(
        data=reader.whole("data", 0, high=MAX_DEVICES),
        fsdp=reader.whole("fsdp", 0, high=MAX_DEVICES) or 1,
        processes=reader.whole("processes", 0, high=MAX_PROCESSES) or 1,
    )
    reader.finish()
    return settings


class _Reader:
    """Takes the fields of one JSON object and collects what is wrong; what is left over is unknown."""

    def __init__(self, value: object, path: str, problems: list[str] | None = None) -> None:
        self.path = path
        self.problems: list[str] = [] if problems is None else problems
        self.left: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {}
        if not isinstance(value, Mapping):
            self.problems.append(f"{path.rstrip('.') or 'the file'}: must be an object.")

    def section(self, name: str) -> _Reader:
        return _Reader(self.left.pop(name, {}), f"{self.path}{name}.", self.problems)

    def text(self, name: str, default: str) -> str:
        value: str = self.take(name, str, default)
        return value

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.text(name, default) or default
        if value not in allowed:
            self._refuse(name, value, f"it must be one of {', '.join(allowed)}")
        return value

    def flag(self, name: str) -> bool:
        value: bool = self.take(name, bool, False)
        return value

    def whole(self, name: str, default: int | None = None, *, low: int = 0, high: int = 2**63 - 1) -> int:
        value = self.take(name, int, default)
        if not low <= value <= high:
            self._refuse(name, value, f"it must be from {low} to {high}")
        return int(value)

    def number(
        self,
        name: str,
        default: float | None = None,
        *,
        low: float,
        high: float = math.inf,
        open_low: bool = False,
        open_high: bool = False,
    ) -> float:
        value = float(self.take(name, (int, float), default))
        inside = (low < value if open_low else low <= value) and (
            value < high if open_high else value <= high
        )
        if not (inside and math.isfinite(value)):
            left, right = "(" if open_low else "[", ")" if open_high else "]"
            self._refuse(name, value, f"it must be in {left}{low:g}, {high:g}{right}")
        return value

    def take(self, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
        """The field's value, or the default; a default of None makes the field required."""
        value = self.left.pop(name, default)
        if value is None:
            self.problems.append(f"{self.path}{name}: is required.")
            return 1
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self._refuse(name, value, "it has a wrong type")
            return 1 if default is None else default
        return value

    def finish(self) -> None:
        """Report the fields that nobody took."""
        self.problems.extend(f"{self.path}{name}: is unknown; remove it." for name in sorted(self.left))

    def _refuse(self, name: str, value: object, rule: str) -> None:
        self.problems.append(f"{self.path}{name}: is {value!r}; {rule}.")
