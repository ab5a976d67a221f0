"""What log-likelihoods of texts add up to; all logarithms are natural."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunix_rt.stats.intervals import checked_confidence, finite_sample


@dataclass(frozen=True)
class Perplexity:
    """A perplexity with the ends of its interval."""

    value: float
    low: float
    high: float


def perplexity(
    log_likelihoods: Sequence[float],
    token_counts: Sequence[int],
    *,
    seed: int,
    confidence: float = 0.95,
    resamples: int = 10_000,
) -> Perplexity:
    """The perplexity of texts, exp(-Σ log-likelihood / Σ tokens), with its interval.

    The interval is the percentile bootstrap's over the texts (Efron 1979): the ratio of the two sums is
    made anew from each resample. A pure function of its arguments. Raises ValueError for no texts, a
    non-finite log-likelihood, a text without tokens or fewer than 100 resamples.
    """
    values, counts = finite_sample(log_likelihoods), np.asarray(token_counts, dtype=np.float64)
    if counts.shape != values.shape or not (counts > 0).all():
        raise ValueError("a text has no tokens; each needs one at least.")
    if resamples < 100:
        raise ValueError(f"resamples is {resamples}; it must be at least 100.")
    tail = (1 - checked_confidence(confidence)) / 2
    generator = np.random.default_rng(seed)
    block = max(1, 2_000_000 // values.size)
    losses = np.empty(resamples)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.integers(0, values.size, size=(size, values.size))
        losses[start : start + size] = -values[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(losses, [tail, 1 - tail])
    loss = -math.fsum(values) / math.fsum(counts)
    return Perplexity(_exp(loss), _exp(min(float(low), loss)), _exp(max(float(high), loss)))


def bits_per_byte(log_likelihood: float, byte_count: int) -> float:
    """The negative log-likelihood of a text in bits, a byte of its UTF-8."""
    return -log_likelihood / (math.log(2) * byte_count)


def mean_probability(log_likelihood: float, token_count: int) -> float:
    """The geometric mean probability of a token, exp(log-likelihood / tokens), in [0, 1]."""
    return min(1.0, math.exp(log_likelihood / token_count))


def _exp(value: float) -> float:
    """exp, infinite where a float holds no such number."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
