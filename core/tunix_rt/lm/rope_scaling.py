"""How fast each pair of a head's numbers is turned by a position, and the stretching of these frequencies."""

import math
from dataclasses import dataclass
from typing import Literal

RopeKind = Literal["linear", "llama3", "yarn"]
ROPE_KINDS: tuple[RopeKind, ...] = ("linear", "llama3", "yarn")


@dataclass(frozen=True)
class RopeScaling:
    """Rotary frequencies stretched for contexts longer than `original_positions`.

    linear uses `factor` only (Chen et al. 2023, arXiv 2306.15595), llama3 the two frequency factors, yarn the
    betas and `attention_factor`, which multiplies cosine and sine (Peng et al. 2023, arXiv 2309.00071).
    """

    kind: RopeKind
    factor: float
    original_positions: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0


def scaled_frequencies(head_dim: int, theta: float, scaling: RopeScaling) -> tuple[float, ...]:
    """Radians a position, for each of the head_dim / 2 pairs."""
    plain = [theta ** (-2 * index / head_dim) for index in range(head_dim // 2)]
    if scaling.kind == "linear":
        return tuple(each / scaling.factor for each in plain)
    if scaling.kind == "llama3":
        return tuple(_llama3(each, scaling) for each in plain)
    kept = _kept_by_yarn(head_dim, theta, scaling)
    return tuple(
        each * share + each / scaling.factor * (1 - share) for each, share in zip(plain, kept, strict=True)
    )


def _llama3(frequency: float, scaling: RopeScaling) -> float:
    """Short waves as they are, long ones stretched by the factor, those between by a share of it."""
    turns = scaling.original_positions * frequency / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    share = min(max((turns - low) / (high - low), 0.0), 1.0)
    return frequency * share + frequency / scaling.factor * (1 - share)


def _kept_by_yarn(head_dim: int, theta: float, scaling: RopeScaling) -> list[float]:
    """The share of each pair's own frequency: 1 for fast pairs, 0 for slow ones, a ramp between."""

    def place(turns: float) -> float:
        return head_dim * math.log(scaling.original_positions / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = place(scaling.beta_fast), place(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    if low == high:
        high += 0.001
    return [1 - min(max((index - low) / (high - low), 0.0), 1.0) for index in range(head_dim // 2)]
