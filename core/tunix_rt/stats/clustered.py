"""Scores of items that are not independent: samples of one item, items of one template."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunix_rt.stats.intervals import finite_sample, normal_quantile

MIN_CLUSTERS = 10  # with fewer, errors that are clustered come out far too small


@dataclass(frozen=True)
class ClusteredInterval:
    """A closed interval for a mean, from this many clusters."""

    low: float
    high: float
    clusters: int


def clustered(
    values: Sequence[float], clusters: Sequence[str], confidence: float = 0.95
) -> ClusteredInterval:
    """Normal interval of the mean of scores in [0, 1], errors clustered, cut to [0, 1].

    mean ± z·`clustered_error`, z the two-sided normal quantile: with fewer than about 30 clusters it is
    too narrow. Scores that are all equal give no width; Wilson's interval then says more.
    """
    error = clustered_error(values, clusters)
    if not all(0 <= value <= 1 for value in values):
        raise ValueError("a value is outside [0, 1]; only scores can be given.")
    mean, z = float(np.mean(values)), normal_quantile(confidence)
    return ClusteredInterval(
        low=max(0.0, mean - z * error), high=min(1.0, mean + z * error), clusters=len(set(clusters))
    )


def clustered_error(values: Sequence[float], clusters: Sequence[str]) -> float:
    """Cluster-robust standard error of the mean.

    √(G/(G-1) · Σ_g (Σ_{i in g} (x_i - x̄))²) / n for n values in G clusters: with each value a cluster of
    its own the usual s/√n. Miller, Adding error bars to evals, arXiv:2411.00640 (2024), with the factor
    for few clusters of Cameron and Miller, J. Human Resources 50 (2015).
    Raises ValueError for fewer than two clusters, which tell nothing of the spread between clusters.
    """
    sample = finite_sample(values)
    if len(clusters) != sample.size:
        raise ValueError(f"there are {sample.size} values and {len(clusters)} clusters; name one for each.")
    names, codes = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    if names.size < 2:
        raise ValueError(f"all values are in the cluster {names[0]!r}; at least two clusters are needed.")
    sums = np.bincount(codes, weights=sample - sample.mean())
    return math.sqrt(names.size / (names.size - 1) * float(sums @ sums)) / sample.size


def item_means(items: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    """The mean score of each item over its samples, in the order in which the items first occur."""
    if len(items) != len(scores):
        raise ValueError(f"there are {len(items)} items and {len(scores)} scores; name one for each.")
    samples: dict[str, list[float]] = {}
    for item, score in zip(items, scores, strict=True):
        samples.setdefault(item, []).append(score)
    return {item: math.fsum(own) / len(own) for item, own in samples.items()}
