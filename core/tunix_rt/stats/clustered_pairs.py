"""Paired differences of items that are not independent: whole clusters vary and are flipped together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunix_rt.stats.clustered import clustered_error
from tunix_rt.stats.intervals import Interval
from tunix_rt.stats.paired import paired_differences, sign_flip
from tunix_rt.stats.seeds import t_quantile


@dataclass(frozen=True)
class ClusteredDifference:
    """The mean difference of a candidate from a baseline with errors clustered.

    `design_effect` is how many times the variance of the mean is that of independent items (Kish, Survey
    Sampling, 1965); 1 where the items do not differ at all.
    """

    clusters: int
    interval: Interval
    p_value: float
    design_effect: float


def clustered_difference(
    baseline: Sequence[float],
    candidate: Sequence[float],
    *,
    clusters: Sequence[str],
    seed: int,
    confidence: float = 0.95,
) -> ClusteredDifference:
    """Interval and test of mean(candidate - baseline), the scores in [0, 1] and in the same item order.

    `interval` is d̄ ± t·SE cut to [-1, 1], SE = `clustered_error` of the differences (the CR1 variance of a
    regression on the constant alone) and t the quantile of Student's t with G - 1 degrees of freedom for G
    clusters: Cameron and Miller, J. Human Resources 50 (2015). `p_value` is the sign-flip test on the
    clusters' sums: if the systems are alike, each cluster might as well have been the other way round.
    """
    differences = paired_differences(baseline, candidate)
    error = clustered_error(differences.tolist(), clusters)
    names, codes = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    mean, reach = float(differences.mean()), t_quantile(names.size - 1, confidence) * error
    sums = np.bincount(codes, weights=differences)
    independent = float(differences.var(ddof=1)) / differences.size
    return ClusteredDifference(
        clusters=names.size,
        interval=Interval(low=max(-1.0, mean - reach), high=min(1.0, mean + reach)),
        p_value=sign_flip(sums.tolist(), seed=seed),
        design_effect=error * error / independent if independent else 1.0,
    )
