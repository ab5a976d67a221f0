"""Paired comparison of two systems on the same items."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunix_rt.stats.intervals import (
    Interval,
    checked_confidence,
    finite_sample,
    normal_quantile,
    resampled_means,
)

Verdict = Literal["better", "worse", "no detectable difference"]

EXACT_FLIPS_LIMIT = 16  # 2^16 sign patterns are enumerated; above, they are drawn.
FINEST_GRID = 64  # the most samples of an item
EXACT_STEPS_LIMIT = 400_000_000  # additions for an exact distribution, about half a second


@dataclass(frozen=True)
class PairedComparison:
    """A candidate against a baseline on the same items, scores in [0, 1].

    `gained` items are right only in the candidate, `lost` only in the baseline.
    `p_value` is McNemar's exact test for right/wrong scores, else the sign-flip test.
    """

    n: int
    gained: int
    lost: int
    difference: float
    interval: Interval
    p_value: float
    test: Literal["mcnemar-exact", "sign-flip"]
    verdict: Verdict


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided p-value of McNemar's exact test.

    Under no difference, min(gained, lost) of the gained + lost flips is Binomial(n, 1/2):
    p = min(1, 2·Σ_{k<=min} C(n,k) / 2ⁿ). No flips give 1. McNemar, Psychometrika 12 (1947).
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"gained is {gained} and lost is {lost}; counts cannot be negative.")
    flips = gained + lost
    tail = term = 1
    for k in range(1, min(gained, lost) + 1):
        term = term * (flips - k + 1) // k  # C(flips, k), exact in integers
        tail += term
    return min(1.0, (2 * tail) / (1 << flips))


def paired_bootstrap(
    baseline: Sequence[float],
    candidate: Sequence[float],
    *,
    seed: int,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of mean(candidate - baseline), items drawn in pairs."""
    differences = paired_differences(baseline, candidate)
    if resamples < 100:
        raise ValueError(f"resamples is {resamples}; it must be at least 100.")
    tail = (1 - checked_confidence(confidence)) / 2
    means = resampled_means(differences, seed=seed, resamples=resamples)
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high))


def sign_flip(differences: Sequence[float], *, seed: int, permutations: int = 10_000) -> float:
    """Two-sided p-value of the sign-flip permutation test that the mean difference is zero.

    Exact, without the seed, where the differences are multiples of 1/q for a q up to 64, as means of
    up to 64 right/wrong samples are, and where there are at most 16 that are not 0. Otherwise sign
    patterns are drawn and p = (1 + hits) / (1 + permutations), so p is never 0.
    """
    sample = finite_sample(differences)
    moved = sample[sample != 0]
    if moved.size == 0:
        return 1.0
    steps = _grid_steps(moved)
    if steps is not None:
        return _exact_sign_flip(steps)
    observed = abs(float(moved.sum())) * (1 - 1e-12)  # equal sums count as hits in spite of rounding
    if moved.size <= EXACT_FLIPS_LIMIT:
        patterns = np.arange(1 << moved.size)[:, None] >> np.arange(moved.size) & 1
        sums = np.abs((1 - 2 * patterns) @ moved)
        return float(np.mean(sums >= observed))
    if permutations < 100:
        raise ValueError(f"permutations is {permutations}; it must be at least 100.")
    generator = np.random.default_rng(seed)
    hits = 0
    block = max(1, 2_000_000 // moved.size)
    for start in range(0, permutations, block):
        count = min(block, permutations - start)
        signs = 1 - 2 * generator.integers(0, 2, size=(count, moved.size), dtype=np.int8)
        hits += int(np.count_nonzero(np.abs(signs @ moved) >= observed))
    return (1 + hits) / (1 + permutations)


def _grid_steps(moved: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """The differences in units of 1/q for the least q up to 64; None if there is none, or too much work."""
    for q in range(1, FINEST_GRID + 1):
        steps = np.rint(moved * q)
        if np.abs(moved * q - steps).max() < 1e-9:
            within = moved.size * float(np.abs(steps).sum()) <= EXACT_STEPS_LIMIT
            return steps.astype(np.int64) if within else None
    return None


def _exact_sign_flip(steps: NDArray[np.int64]) -> float:
    """P(|Σ ±s| >= |Σ s|) over all sign patterns, from the distribution of the sum of the positive part."""
    sizes = np.abs(steps)
    total = int(sizes.sum())
    chance = np.zeros(total + 1)  # of the sum t of the sizes with a plus; the signed sum is 2t - total
    chance[0], reached = 1.0, 0
    for size in np.sort(sizes).tolist():
        added = chance[: reached + 1] / 2
        chance[: reached + 1] = added
        chance[size : size + reached + 1] += added
        reached += size
    signed = np.abs(2 * np.arange(total + 1) - total)
    return min(1.0, float(chance[signed >= abs(int(steps.sum()))].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests after Holm's correction, in the given order.

    With m p-values in ascending order, the i-th becomes max over j <= i of min(1, (m - j + 1)·p_j): the
    chance of any false rejection stays below the level. Holm, Scand. J. Statist. 6 (1979).
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"the p-values are {list(p_values)}; each must be in [0, 1].")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def detectable_difference(
    baseline: Sequence[float],
    candidate: Sequence[float],
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    design_effect: float = 1.0,
) -> float | None:
    """Smallest difference that a paired test on these many items reveals with this power.

    Solves n·d² = (z_{1-α/2}·√π + z_{power}·√(π - d²))² for d, with π the mean square of the observed
    differences; for right/wrong scores that is the discordance, and the formula that of
    `minimum_detectable_difference`. Where the items differ too little to reveal anything, π is taken as
    d: every change is a whole point, and all go one way. None if so few items can reveal nothing: m
    changes have at least the p-value 2/2ᵐ. Items that vary together count as n / `design_effect` ones,
    never as more than n.
    """
    differences = paired_differences(baseline, candidate)
    n, moved = differences.size, int(np.count_nonzero(differences))
    if 2.0 ** (1 - n) >= alpha:
        return None
    found, worth = None, n / max(1.0, design_effect)
    if 2.0 ** (1 - moved) < alpha:
        square = float(np.mean(differences**2))
        whole = bool(np.isin(differences, (-1.0, 0.0, 1.0)).all())
        most = square if whole else math.sqrt(square)  # no difference with this mean square is larger
        found = _solve(worth, lambda _: square, most, alpha=alpha, power=power)
    return _solve(worth, lambda d: d, 1.0, alpha=alpha, power=power) if found is None else found


def minimum_detectable_difference(
    n: int, discordance: float, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Smallest difference of two paired rates that n items reveal with this power.

    `discordance` is the expected share of items on which the two systems differ, in (0, 1].
    Solves n·d² = (z_{1-α/2}·√π + z_{power}·√(π - d²))² for d, π the discordance
    (Connor, Biometrics 43, 1987). The answer is never more than the discordance: where even that
    is not detectable, the discordance would have to be larger, and ValueError says so.
    """
    if n <= 0:
        raise ValueError(f"n is {n}; it must be positive.")
    if not 0 < discordance <= 1:
        raise ValueError(f"discordance is {discordance}; it must be in (0, 1].")
    found = _solve(n, lambda _: discordance, discordance, alpha=alpha, power=power)
    if found is None:
        raise ValueError(
            f"{n} items show no difference when only {discordance:.1%} of them change; use more items."
        )
    return found


def verdict(difference: float, p_value: float, *, alpha: float = 0.05) -> Verdict:
    """Whether a candidate is better or worse, or no difference can be told."""
    if p_value >= alpha or difference == 0:
        return "no detectable difference"
    return "better" if difference > 0 else "worse"


def compare(
    baseline: Sequence[float],
    candidate: Sequence[float],
    *,
    seed: int,
    alpha: float = 0.05,
    resamples: int = 10_000,
) -> PairedComparison:
    """Compares the scores of two systems, given in the same item order."""
    differences = paired_differences(baseline, candidate)
    difference = float(differences.mean())
    gained = int(np.count_nonzero(differences > 0))
    lost = int(np.count_nonzero(differences < 0))
    binary = set(baseline) | set(candidate) <= {0.0, 1.0}
    p_value = mcnemar_exact(gained, lost) if binary else sign_flip(differences.tolist(), seed=seed)
    interval = paired_bootstrap(baseline, candidate, seed=seed, resamples=resamples, confidence=1 - alpha)
    return PairedComparison(
        n=differences.size,
        gained=gained,
        lost=lost,
        difference=difference,
        interval=interval,
        p_value=p_value,
        test="mcnemar-exact" if binary else "sign-flip",
        verdict=verdict(difference, p_value, alpha=alpha),
    )


def _solve(
    n: float, square: Callable[[float], float], most: float, *, alpha: float, power: float
) -> float | None:
    """The d in (0, most] that n items reveal when differences have this mean square; None if none is."""
    z_alpha = normal_quantile(1 - alpha)
    z_power = NormalDist().inv_cdf(checked_confidence(power))

    def too_small(d: float) -> bool:
        spread = z_alpha * math.sqrt(square(d)) + z_power * math.sqrt(max(0.0, square(d) - d * d))
        return spread * spread > n * d * d

    low, high = 0.0, most
    if too_small(high):
        return None
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return high


def paired_differences(baseline: Sequence[float], candidate: Sequence[float]) -> NDArray[np.float64]:
    """The candidate's scores minus the baseline's, which stand in the same item order."""
    if len(baseline) != len(candidate):
        raise ValueError(
            f"baseline has {len(baseline)} items and candidate {len(candidate)}; pair them by item first."
        )
    return np.subtract(finite_sample(candidate), finite_sample(baseline))
