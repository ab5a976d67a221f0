"""Checks and completes the optimizer of a run's spec; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tunix_rt.rpc.errors import Violation
from tunix_rt.trainer.optimizer_settings import (
    BETAS,
    EPSILONS,
    NO_DECAY,
    SPARED,
    SPIKE_WINDOW,
    SPIKES_IN_A_ROW,
)
from tunix_rt.v1.run_pb2 import OptimizerSpec, SpikeSkipping

_PATH = "spec.optimizer"


def complete_optimizer(optimizer: OptimizerSpec, *, steps: int) -> None:
    """Fill in the defaults; those of a schedule in `epochs`, where `steps` is 0, stay open."""
    optimizer.algorithm = optimizer.algorithm or OptimizerSpec.ADAMW
    optimizer.decay = optimizer.decay or OptimizerSpec.COSINE
    algorithm = OptimizerSpec.Algorithm.Name(optimizer.algorithm)
    defaults = {"weight_decay": 0.0, "clip_norm": 1.0}
    defaults |= dict(zip(("beta1", "beta2"), BETAS.get(algorithm, ()), strict=False))
    if algorithm in EPSILONS:
        defaults["epsilon"] = EPSILONS[algorithm]
    for name, default in defaults.items():
        if not optimizer.HasField(name):  # type: ignore[arg-type]
            setattr(optimizer, name, default)
    optimizer.no_decay[:] = optimizer.no_decay or NO_DECAY
    if optimizer.decay == OptimizerSpec.WSD and steps and not optimizer.decay_steps:
        optimizer.decay_steps = min(max(1, steps // 10), steps - optimizer.warmup_steps)
    if optimizer.HasField("spikes"):
        optimizer.spikes.window = optimizer.spikes.window or SPIKE_WINDOW
        optimizer.spikes.max_in_a_row = optimizer.spikes.max_in_a_row or SPIKES_IN_A_ROW


def optimizer_violations(optimizer: OptimizerSpec, *, steps: int) -> Iterator[Violation]:
    """What is wrong with an optimizer, for a run of so many steps, or of epochs where it is 0."""
    if not 0 < optimizer.learning_rate <= 1:
        text = f"is {optimizer.learning_rate:g}; it must be in (0, 1]."
        yield Violation(f"{_PATH}.learning_rate", text)
    yield from _schedule_violations(optimizer, steps=steps)
    if not 0 <= optimizer.weight_decay <= 1:
        yield Violation(f"{_PATH}.weight_decay", f"is {optimizer.weight_decay:g}; it must be in [0, 1].")
    if not (math.isfinite(optimizer.clip_norm) and optimizer.clip_norm >= 0):
        text = f"is {optimizer.clip_norm:g}; it must be positive, or 0 to turn clipping off."
        yield Violation(f"{_PATH}.clip_norm", text)
    yield from _rule_violations(optimizer)
    unknown = [name for name in optimizer.no_decay if name not in SPARED]
    if unknown:
        text = f"names `{unknown[0][:100]}`; it may name {', '.join(SPARED)}."
        yield Violation(f"{_PATH}.no_decay", text)
    if len(set(optimizer.no_decay)) < len(optimizer.no_decay):
        yield Violation(f"{_PATH}.no_decay", "names parameters twice; name each once.")
    if optimizer.HasField("spikes"):
        yield from _spike_violations(optimizer.spikes)


def _schedule_violations(optimizer: OptimizerSpec, *, steps: int) -> Iterator[Violation]:
    warmup, decay_steps = optimizer.warmup_steps, optimizer.decay_steps
    if warmup < 0:
        yield Violation(f"{_PATH}.warmup_steps", f"is {warmup}; it must not be negative.")
    elif 0 < steps <= warmup:
        text = f"is {warmup}; it must be less than spec.steps, which is {steps}."
        yield Violation(f"{_PATH}.warmup_steps", text)
    if optimizer.decay not in OptimizerSpec.Decay.values():
        text = f"is {optimizer.decay}; it must be COSINE, LINEAR, CONSTANT or WSD."
        yield Violation(f"{_PATH}.decay", text)
    if decay_steps and optimizer.decay != OptimizerSpec.WSD:
        text = f"is {decay_steps}; only WSD has decay steps. Set decay to WSD, or leave it out."
        yield Violation(f"{_PATH}.decay_steps", text)
    elif decay_steps < 0:
        yield Violation(f"{_PATH}.decay_steps", f"is {decay_steps}; it must be positive, or 0 for a tenth.")
    elif 0 < steps - warmup < decay_steps:
        text = f"is {decay_steps}; it must be at most the {steps - warmup} steps after warmup."
        yield Violation(f"{_PATH}.decay_steps", text)
    if optimizer.final_ratio and optimizer.decay == OptimizerSpec.CONSTANT:
        text = f"is {optimizer.final_ratio:g}; CONSTANT has no decay that would end there. Leave it out."
        yield Violation(f"{_PATH}.final_ratio", text)
    elif not 0 <= optimizer.final_ratio <= 1:
        yield Violation(f"{_PATH}.final_ratio", f"is {optimizer.final_ratio:g}; it must be in [0, 1].")


def _rule_violations(optimizer: OptimizerSpec) -> Iterator[Violation]:
    if optimizer.algorithm not in OptimizerSpec.Algorithm.values():
        text = f"is {optimizer.algorithm}; it must be ADAMW, ADAFACTOR, LION or MUON."
        yield Violation(f"{_PATH}.algorithm", text)
        return
    algorithm = OptimizerSpec.Algorithm.Name(optimizer.algorithm or OptimizerSpec.ADAMW)
    for name, value in (("beta1", optimizer.beta1), ("beta2", optimizer.beta2)):
        if algorithm not in BETAS and optimizer.HasField(name):  # type: ignore[arg-type]
            yield Violation(f"{_PATH}.{name}", f"is {value:g}; {algorithm} has no betas. Leave it out.")
        elif not 0 <= value < 1:
            yield Violation(f"{_PATH}.{name}", f"is {value:g}; it must be in [0, 1).")
    if optimizer.HasField("epsilon"):
        value = optimizer.epsilon
        if algorithm not in EPSILONS:
            yield Violation(f"{_PATH}.epsilon", f"is {value:g}; {algorithm} has no epsilon. Leave it out.")
        elif not 0 < value < 1:
            yield Violation(f"{_PATH}.epsilon", f"is {value:g}; it must be in (0, 1).")


def _spike_violations(spikes: SpikeSkipping) -> Iterator[Violation]:
    path = f"{_PATH}.spikes"
    if not (math.isfinite(spikes.ratio) and spikes.ratio > 1):
        yield Violation(f"{path}.ratio", f"is {spikes.ratio:g}; it must be over 1.")
    if spikes.window and not 4 <= spikes.window <= 1000:
        text = f"is {spikes.window}; it must be in [4, 1000], or 0 for {SPIKE_WINDOW}."
        yield Violation(f"{path}.window", text)
    if spikes.max_in_a_row < 0:
        text = f"is {spikes.max_in_a_row}; it must be positive, or 0 for {SPIKES_IN_A_ROW}."
        yield Violation(f"{path}.max_in_a_row", text)
