"""How much a score depends on the seed of training or of sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunix_rt.stats.intervals import Interval, checked_confidence, finite_sample


@dataclass(frozen=True)
class SeedVariance:
    """The scores of one method under several seeds, on the same items.

    `variance` is that of the seeds' mean scores (divisor seeds - 1); `chance` is what it would be on
    average if no seed were better than another. `interval` is that of the mean over all seeds.
    """

    seeds: int
    mean: float
    variance: float
    chance: float
    interval: Interval


@dataclass(frozen=True)
class SeedSpread:
    """The mean scores of one method under several seeds.

    `deviation` has the divisor seeds - 1; `interval` is that of the mean over all seeds. Two runs of the
    method differ by less than `chance_difference` with the interval's confidence.
    """

    seeds: int
    mean: float
    deviation: float
    interval: Interval
    chance_difference: float


def seed_spread(means: Sequence[float], confidence: float = 0.95) -> SeedSpread:
    """The spread of the mean scores of two or more seeds, taken as normal.

    With s the standard deviation of S seeds, m their mean and t the quantile of Student's t with S - 1
    degrees of freedom: `interval` = m ± t·s/√S, and `chance_difference` = t·s·√2, because the difference of
    two further runs has the variance 2σ².
    """
    sample = finite_sample(means)
    if sample.size < 2:
        raise ValueError("there is one seed; the spread of seeds needs at least two.")
    mean, deviation = float(sample.mean()), float(sample.std(ddof=1))
    t = t_quantile(sample.size - 1, confidence)
    reach = t * deviation / math.sqrt(sample.size)
    return SeedSpread(
        sample.size, mean, deviation, Interval(mean - reach, mean + reach), t * deviation * math.sqrt(2)
    )


def welch_interval(
    baseline: Sequence[float], candidate: Sequence[float], confidence: float = 0.95
) -> Interval | None:
    """Welch's interval of mean(candidate) - mean(baseline) over unpaired seeds; None without any spread.

    d ± t·√(a + b) with a = s²/S of one side and b that of the other; t has
    (a + b)² / (a²/(S_a - 1) + b²/(S_b - 1)) degrees of freedom, rounded down (Welch, Biometrika 34, 1947).
    A side with a single score is a constant, such as the model that was there before training: its share of
    the variance is 0.
    """
    sides = [finite_sample(baseline), finite_sample(candidate)]
    shares = [float(side.var(ddof=1)) / side.size if side.size > 1 else 0.0 for side in sides]
    variance = math.fsum(shares)
    if variance == 0:
        return None
    parts = (share * share / (side.size - 1) for share, side in zip(shares, sides, strict=True) if share)
    degrees = math.floor(variance * variance / math.fsum(parts) + 1e-9)
    difference = float(sides[1].mean() - sides[0].mean())
    reach = t_quantile(degrees, confidence) * math.sqrt(variance)
    return Interval(difference - reach, difference + reach)


def seed_variance(scores_by_seed: Sequence[Sequence[float]], confidence: float = 0.95) -> SeedVariance:
    """The spread of a score over seeds; each seed's item scores stand in the same item order.

    With m_s the mean of seed s over n items, `variance` = Σ(m_s - m)²/(S-1), and
    `interval` = m ± t·√(variance/S), t the quantile of Student's t with S - 1 degrees of freedom.
    `chance` is the residual mean square of the two-way table of items and seeds, divided by n.
    """
    if len(scores_by_seed) < 2 or len({len(scores) for scores in scores_by_seed}) != 1:
        sizes = [len(scores) for scores in scores_by_seed]
        raise ValueError(f"the seeds have {sizes} items; give at least two seeds with the same items.")
    table = np.stack([finite_sample(scores) for scores in scores_by_seed])  # (seeds, items)
    seeds, items = table.shape
    if items < 2:
        raise ValueError("there is 1 item; at least two are needed to tell seeds from chance.")
    means = table.mean(axis=1)
    spread = seed_spread(means.tolist(), confidence)
    residual = table - means[:, None] - table.mean(axis=0) + spread.mean
    chance = float((residual**2).sum() / ((seeds - 1) * (items - 1)) / items)
    return SeedVariance(seeds, spread.mean, spread.deviation**2, chance, spread.interval)


def t_quantile(degrees: int, confidence: float) -> float:
    """The t for which Student's t with these degrees of freedom lies in [-t, t] with this probability.

    By bisection of the finite sums of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    checked_confidence(confidence)
    if degrees < 1:
        raise ValueError(f"degrees is {degrees}; it must be at least 1.")
    low, high = 0.0, math.pi / 2  # θ = arctan(t/√ν)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, degrees) < confidence else (low, middle)
    return math.sqrt(degrees) * math.tan(high)


def _t_inside(theta: float, degrees: int) -> float:
    """P(|t| <= √ν·tan θ) for ν degrees of freedom."""
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for power in range(2 + odd, degrees - 1, 2):
        term *= cosine * cosine * (power - 1) / power
        total += term
    return 2 / math.pi * (theta + sine * total) if odd else sine * total
