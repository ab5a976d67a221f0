"""Means of item scores with their intervals; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunix_rt.stats.clustered import ClusteredInterval
from tunix_rt.stats.intervals import Interval, bca_mean, wilson
from tunix_rt.v1.evaluation_pb2 import Score

CONFIDENCE = 0.95
SEED = 0  # of the resampling, so that a result is a function of its outputs


def share_score(values: Sequence[float]) -> Score:
    """The mean of item scores in [0, 1] with its interval.

    Wilson's where every score is 0 or 1, else the BCa bootstrap's.
    """
    if all(value in (0.0, 1.0) for value in values):
        right = round(math.fsum(values))
        return interval_score(values, wilson(right, len(values), confidence=CONFIDENCE), method="wilson")
    return interval_score(values, bca_mean(values, seed=SEED, confidence=CONFIDENCE), method="bca")


def interval_score(values: Sequence[float], interval: Interval | ClusteredInterval, *, method: str) -> Score:
    """The mean of item scores with an interval, which is cut to [0, 1] and holds the mean."""
    mean = math.fsum(values) / len(values)
    return Score(
        mean=mean,
        low=max(0.0, min(interval.low, mean)),
        high=min(1.0, max(interval.high, mean)),
        confidence=CONFIDENCE,
        count=len(values),
        method=method,
    )
