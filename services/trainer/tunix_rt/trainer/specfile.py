"""The child's view of a run's spec: `spec.json` read strictly into frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.traces.text import DEFAULT_FORMAT, FORMATS
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.optimizer_settings import OptimizerSettings, read_optimizer, schedule_problems
from tunix_rt.trainer.retention import BEST_METRICS, Retention
from tunix_rt.trainer.rows.recipe import OVERLONG
from tunix_rt.trainer.sharding_settings import ShardingSettings, read_sharding
from tunix_rt.trainer.shown_settings import ProfileSettings, SampleSettings, read_profile, read_samples
from tunix_rt.trainer.spec_reader import SpecReader
from tunix_rt.trainer.stopping import STOPPING_METRICS, StoppingSettings

BATCHINGS = ("PACKED", "PADDED")
COMPUTE_TYPES = ("FLOAT32", "BFLOAT16")


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters; the scale is `alpha / rank`, no targets means every projection."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    dropout: float = 0.0


@dataclass(frozen=True)
class MixtureSettings:
    """Further traces to train on; `weight` is how often an epoch takes each."""

    dataset: str
    split: str
    weight: float


@dataclass(frozen=True)
class TrainSpec:
    """What is trained, on which splits, and how; exactly one of `steps` and `epochs` is not 0.

    `validate_every` None means a tenth of the steps, 0 none; `lora` None means every weight is trained.
    `micro_batch_size` rows are computed at a time; `ema_decay` 0 means that no average is kept.
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
    micro_batch_size: int
    compute_type: str
    ema_decay: float
    early_stopping: StoppingSettings | None
    samples: SampleSettings | None
    profile: ProfileSettings | None
    retention: Retention
    mixture: tuple[MixtureSettings, ...]
    batching: str
    overlong: str
    sharding: ShardingSettings


def parse_spec(value: object) -> TrainSpec:
    """The spec in the JSON form of `RunSpec`, with its field names and zeros left out.

    Raises TrainingFailure that names every field that is unknown, missing, of a wrong type or out of range.
    """
    reader = SpecReader(value, "")
    optimizer = read_optimizer(reader.section("optimizer"))
    lora = _lora(reader.section("lora")) if "lora" in reader.left else None
    if "full" in reader.left:
        reader.section("full").finish()
        if lora is not None:
            reader.problems.append("full and lora: only one may be set.")
    batch_size = reader.whole("batch_size", low=1, high=4096)
    for unused in ("model", "dataset", "evaluate_after"):
        reader.left.pop(unused, None)
    spec = TrainSpec(
        train_split=reader.text("train_split", "") or "train",
        validation_split=reader.text("validation_split", "") or "validation",
        lora=lora,
        steps=reader.whole("steps", 0, low=0, high=10_000_000),
        epochs=reader.number("epochs", 0.0, low=0.0, high=1000.0),
        batch_size=batch_size,
        max_length=reader.whole("max_length", low=16, high=8192),
        optimizer=optimizer,
        seed=reader.whole("seed", 0, low=-(2**63), high=2**63 - 1),
        validate_every=reader.whole("validate_every") if "validate_every" in reader.left else None,
        checkpoint_every=reader.whole("checkpoint_every", 0),
        format=reader.choice("format", FORMATS, DEFAULT_FORMAT),
        system_prompt=reader.text("system_prompt", ""),
        remat=reader.flag("remat"),
        micro_batch_size=reader.whole("micro_batch_size", 0, high=batch_size) or batch_size,
        compute_type=reader.enum("compute_type", COMPUTE_TYPES),
        ema_decay=reader.number("ema_decay", 0.0, low=0.0, high=1.0, open_high=True),
        early_stopping=_stopping(reader.section("early_stopping"))
        if "early_stopping" in reader.left
        else None,
        samples=read_samples(reader.section("samples")) if "samples" in reader.left else None,
        profile=read_profile(reader.section("profile")) if "profile" in reader.left else None,
        retention=_retention(reader.section("retention")),
        mixture=_mixture(reader),
        batching=reader.enum("batching", BATCHINGS),
        overlong=reader.enum("overlong", OVERLONG),
        sharding=read_sharding(reader.section("sharding")),
    )
    if spec.early_stopping is not None and spec.validate_every == 0:
        reader.problems.append("early_stopping: needs validations; validate_every is 0.")
    if spec.retention.best_metric and spec.validate_every == 0:
        reader.problems.append("retention.best_metric: needs validation, and validate_every is 0.")
    if (spec.steps > 0) == (spec.epochs > 0):
        reader.problems.append("steps and epochs: exactly one of them must be set.")
    if spec.steps > 0:
        reader.problems.extend(schedule_problems(optimizer, steps=spec.steps))
    reader.finish()
    if reader.problems:
        raise TrainingFailure("INVALID_FIELDS", "spec.json: " + " ".join(reader.problems))
    return spec


def _lora(reader: SpecReader) -> LoraSettings:
    rank = reader.whole("rank", 0, high=512) or 16
    settings = LoraSettings(
        rank=rank,
        alpha=reader.number("alpha", 0.0, low=0.0) or 2.0 * rank,
        targets=reader.names("targets"),
        dropout=reader.number("dropout", 0.0, low=0.0, high=1.0, open_high=True),
    )
    reader.finish()
    return settings


def _retention(reader: SpecReader) -> Retention:
    retention = Retention(
        keep_last=reader.whole("keep_last", 1, high=100) or 1,
        keep_every=reader.whole("keep_every", 0),
        best_metric=reader.choice("best_metric", ("", *BEST_METRICS), ""),
    )
    reader.finish()
    return retention


def _mixture(reader: SpecReader) -> tuple[MixtureSettings, ...]:
    made = []
    for index, value in enumerate(reader.take("mixture", list, [])):
        part = SpecReader(value, f"{reader.path}mixture[{index}].", reader.problems)
        weight = part.number("weight", 0.0, low=0.0, high=100.0) or 1.0
        made.append(MixtureSettings(part.text("dataset", ""), part.text("split", "") or "train", weight))
        part.finish()
    return tuple(made)


def _stopping(reader: SpecReader) -> StoppingSettings:
    settings = StoppingSettings(
        metric=reader.choice("metric", STOPPING_METRICS, STOPPING_METRICS[0]),
        patience=reader.whole("patience", low=1),
        min_delta=reader.number("min_delta", 0.0, low=0.0),
    )
    reader.finish()
    return settings
