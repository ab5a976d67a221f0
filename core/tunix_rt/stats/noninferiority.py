"""Whether a candidate is not worse than a baseline on the same items, by more than a margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tunix_rt.stats.clustered import MIN_CLUSTERS, clustered_error
from tunix_rt.stats.intervals import normal_quantile
from tunix_rt.stats.paired import paired_differences
from tunix_rt.stats.seeds import t_quantile

Method = Literal["score", "student", "clustered"]


@dataclass(frozen=True)
class LowerBound:
    """The mean difference of a candidate from a baseline, and the one-sided lower bound of it.

    The candidate is not inferior by a margin if `low` is over minus the margin: Piaggio et al., JAMA 308
    (2012). `clusters` is 0 unless the errors are clustered.
    """

    difference: float
    low: float
    method: Method
    clusters: int = 0


def difference_lower_bound(
    baseline: Sequence[float],
    candidate: Sequence[float],
    *,
    clusters: Sequence[str] = (),
    confidence: float = 0.95,
) -> LowerBound:
    """The bound over which mean(candidate - baseline) lies with this confidence, scores in [0, 1].

    Right/wrong scores have Tango's score bound, others `student_bound`. Where every item has one of
    MIN_CLUSTERS clusters or more, the bound d̄ - t·SE with errors clustered, t the one-sided quantile with
    G - 1 degrees of freedom for G clusters, counts if it is lower: Cameron and Miller, J. Human Resources
    50 (2015).
    """
    differences = paired_differences(baseline, candidate)
    mean = float(differences.mean())
    if set(baseline) | set(candidate) <= {0.0, 1.0}:
        gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
        found = LowerBound(mean, score_bound(gained, lost, differences.size, confidence=confidence), "score")
    else:
        found = LowerBound(mean, student_bound(differences.tolist(), confidence=confidence), "student")
    names = set(clusters)
    if not all(clusters) or len(names) < MIN_CLUSTERS:
        return found
    error = clustered_error(differences.tolist(), clusters)
    low = mean - t_quantile(len(names) - 1, 2 * _one_sided(confidence) - 1) * error
    return LowerBound(mean, max(-1.0, min(found.low, low)), "clustered", len(names))


def score_bound(gained: int, lost: int, n: int, *, confidence: float = 0.95) -> float:
    """Tango's one-sided lower score bound of the difference of two paired rates.

    The δ for which (b - c - nδ) / √(n(2q + δ(1 - δ))) = z, with b gained, c lost of n items, and q, the
    likeliest rate of losses under δ, the root (√(B² - 4AC) - B) / 2A for A = 2n, B = -b - c + (2n - b + c)δ,
    C = -cδ(1 - δ). Tango, Statistics in Medicine 17 (1998). Unlike Wald's and the bootstrap's it does not
    shrink to nothing where no item flips: it is then -z²/(n + z²).
    """
    if n <= 0 or gained < 0 or lost < 0 or gained + lost > n:
        raise ValueError(f"gained is {gained} and lost is {lost} of {n} items; they must be among the items.")
    z = normal_quantile(2 * _one_sided(confidence) - 1)
    low, high = -1.0, (gained - lost) / n

    def over(delta: float) -> bool:
        b = -gained - lost + (2 * n - gained + lost) * delta
        c = -lost * delta * (1 - delta)
        q = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        spread = math.sqrt(max(0.0, n * (2 * q + delta * (1 - delta))))
        return gained - lost - n * delta >= z * spread

    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if over(middle) else (low, middle)
    return low


def student_bound(differences: Sequence[float], *, confidence: float = 0.95) -> float:
    """d̄ - t·s/√n, and never nearer to d̄ than `score_bound` is where as many items do not flip.

    t is the one-sided quantile with n - 1 degrees of freedom. Without the second part differences that
    happen to be equal would prove equality. One item gives -1.
    """
    sample = paired_differences([0.0] * len(differences), differences)
    if sample.size < 2:
        return -1.0
    mean = float(sample.mean())
    t = t_quantile(sample.size - 1, 2 * _one_sided(confidence) - 1)
    error = float(np.std(sample, ddof=1)) / math.sqrt(sample.size)
    return max(-1.0, mean + min(-t * error, score_bound(0, 0, sample.size, confidence=confidence)))


def _one_sided(confidence: float) -> float:
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be between 0.5 and 1, for example 0.95.")
    return confidence
