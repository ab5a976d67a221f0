"""Means of item scores with their intervals; pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from tunix_rt.stats.clustered import ClusteredInterval
from tunix_rt.stats.intervals import Interval, bca_means, wilson
from tunix_rt.v1.evaluation_pb2 import Score

CONFIDENCE = 0.95
SEED = 0  # of the resampling, so that a result is a function of its outputs


def share_score(values: Sequence[float]) -> Score:
    """The mean of item scores in [0, 1] with its interval.

    Wilson's where every score is 0 or 1, else the BCa bootstrap's.
    """
    (score,) = share_scores([values])
    return score


def share_scores(rows: Sequence[Sequence[float]]) -> list[Score]:
    """As `share_score` for each row; those of one length share the draws of the bootstrap."""
    resampled = defaultdict(list)
    for at, values in enumerate(rows):
        if not _whole(values):
            resampled[len(values)].append(at)
    intervals: dict[int, Interval] = {}
    for places in resampled.values():
        found = bca_means([rows[at] for at in places], seed=SEED, confidence=CONFIDENCE)
        intervals |= dict(zip(places, found, strict=True))
    return [
        interval_score(values, intervals[at], method="bca")
        if at in intervals
        else interval_score(values, _wilson(values), method="wilson")
        for at, values in enumerate(rows)
    ]


def _whole(values: Sequence[float]) -> bool:
    return all(value in (0.0, 1.0) for value in values)


def _wilson(values: Sequence[float]) -> Interval:
    return wilson(round(math.fsum(values)), len(values), confidence=CONFIDENCE)


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
