"""The optimizer of a run as the child reads it, and the defaults of each algorithm; pure."""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.trainer.spec_reader import SpecReader
from tunix_rt.trainer.spikes import SpikeSettings

ALGORITHMS = ("ADAMW", "ADAFACTOR", "LION", "MUON")
DECAYS = ("COSINE", "LINEAR", "CONSTANT", "WSD")
BETAS = {"ADAMW": (0.9, 0.999), "LION": (0.9, 0.99), "MUON": (0.95, 0.999)}
EPSILONS = {"ADAMW": 1e-8, "MUON": 1e-8}
NO_DECAY = ("norms", "biases")
SPARED = (*NO_DECAY, "embedding", "head")
SPIKE_WINDOW, SPIKES_IN_A_ROW = 50, 10


@dataclass(frozen=True)
class OptimizerSettings:
    """A rule and its schedule; `clip_norm` 0 turns clipping off, `decay_steps` 0 is a tenth of the steps.

    A rule without betas or epsilon has 0 in their place.
    """

    learning_rate: float
    warmup_steps: int
    decay: str
    weight_decay: float
    clip_norm: float
    beta1: float
    beta2: float
    algorithm: str = "ADAMW"
    decay_steps: int = 0
    final_ratio: float = 0.0
    epsilon: float = 1e-8
    no_decay: tuple[str, ...] = NO_DECAY
    spikes: SpikeSettings | None = None


def stable_steps(settings: OptimizerSettings, *, steps: int) -> int:
    """The steps before the decay begins: those of warmup, or all but the last `decay_steps` with WSD."""
    if settings.decay != "WSD":
        return settings.warmup_steps
    tenth = min(max(1, steps // 10), steps - settings.warmup_steps)
    return steps - (settings.decay_steps or tenth)


def schedule_problems(settings: OptimizerSettings, *, steps: int) -> list[str]:
    """What does not fit into a run of so many steps, each with the field's path in front."""
    warmup, decay = settings.warmup_steps, settings.decay_steps
    if warmup >= steps:
        return [f"optimizer.warmup_steps is {warmup}; the run has only {steps} steps."]
    if decay > steps - warmup:
        left = steps - warmup
        return [f"optimizer.decay_steps is {decay}; the run has only {left} steps after its warmup."]
    return []


def read_optimizer(reader: SpecReader) -> OptimizerSettings:
    """The section of the optimizer; its problems are left with the reader."""
    algorithm = reader.choice("algorithm", (*ALGORITHMS, "ALGORITHM_UNSPECIFIED"), "ADAMW")
    algorithm = algorithm if algorithm in ALGORITHMS else "ADAMW"
    decay = reader.choice("decay", (*DECAYS, "DECAY_UNSPECIFIED"), "COSINE")
    decay = decay if decay in DECAYS else "COSINE"
    beta1, beta2 = BETAS.get(algorithm, (0.0, 0.0))
    if algorithm not in BETAS:
        reader.exclude("beta1", f"{algorithm} has no beta")
        reader.exclude("beta2", f"{algorithm} has no beta")
    if algorithm not in EPSILONS:
        reader.exclude("epsilon", f"{algorithm} has no epsilon")
    elif reader.left.get("epsilon") == 0:
        reader.exclude("epsilon", "it must be in (0, 1)")
    if decay != "WSD":
        reader.exclude("decay_steps", "it is only for WSD")
    if decay == "CONSTANT":
        reader.exclude("final_ratio", "CONSTANT has no decay that would end there")
    settings = OptimizerSettings(
        learning_rate=reader.number("learning_rate", low=0.0, high=1.0, open_low=True),
        warmup_steps=reader.whole("warmup_steps", 0),
        decay=decay,
        weight_decay=reader.number("weight_decay", 0.0, low=0.0, high=1.0),
        clip_norm=reader.number("clip_norm", 1.0, low=0.0),
        beta1=reader.number("beta1", beta1, low=0.0, high=1.0, open_high=True),
        beta2=reader.number("beta2", beta2, low=0.0, high=1.0, open_high=True),
        algorithm=algorithm,
        decay_steps=reader.whole("decay_steps", 0),
        final_ratio=reader.number("final_ratio", 0.0, low=0.0, high=1.0),
        epsilon=reader.number("epsilon", EPSILONS.get(algorithm, 0.0), low=0.0, high=1.0, open_high=True),
        no_decay=reader.names("no_decay", SPARED) or NO_DECAY,
        spikes=_spikes(reader.section("spikes")) if "spikes" in reader.left else None,
    )
    reader.finish()
    return settings


def _spikes(reader: SpecReader) -> SpikeSettings:
    settings = SpikeSettings(
        ratio=reader.number("ratio", low=1.0, open_low=True),
        window=reader.whole("window", 0, high=1000) or SPIKE_WINDOW,
        max_in_a_row=reader.whole("max_in_a_row", 0) or SPIKES_IN_A_ROW,
    )
    if settings.window < 4:
        reader.refuse("window", settings.window, "it must be from 4 to 1000, or 0 for 50")
    reader.finish()
    return settings
