"""Confidence intervals for a rate and for a mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval:
    """A closed interval of plausible values."""

    low: float
    high: float


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a binomial rate.

    With p = successes / n and z the two-sided normal quantile:
    (p + z²/2n ± z·√(p(1-p)/n + z²/4n²)) / (1 + z²/n). Wilson, JASA 22 (1927).
    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"successes is {successes} of n {n}; n must be positive and hold the successes.")
    z = normal_quantile(confidence)
    p = successes / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == n else (centre + spread) / scale
    return Interval(low=max(0.0, low), high=min(1.0, high))


def bootstrap_mean(
    values: Sequence[float], *, seed: int, resamples: int = 10_000, confidence: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of the mean; a pure function of its arguments.

    Raises ValueError for no values, a non-finite value or fewer than 100 resamples.
    """
    sample = finite_sample(values)
    if resamples < 100:
        raise ValueError(f"resamples is {resamples}; it must be at least 100.")
    tail = (1 - checked_confidence(confidence)) / 2
    means = resampled_means(sample, seed=seed, resamples=resamples)
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high))


def bca_mean(
    values: Sequence[float], *, seed: int, confidence: float = 0.95, resamples: int = 10_000
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of the mean.

    With Φ the normal distribution function, z₀ = Φ⁻¹(share of resampled means below the mean, ties
    half), a = Σdᵢ³ / (6·(Σdᵢ²)^1.5) over d, the mean less each mean without one value, and
    z = Φ⁻¹(tail), each end is the quantile Φ(z₀ + (z₀ + z)/(1 - a(z₀ + z))) of the resampled means.
    Efron, JASA 82 (1987). Equal values give no width. Raises ValueError as `bootstrap_mean` does.
    """
    (interval,) = bca_means([values], seed=seed, confidence=confidence, resamples=resamples)
    return interval


def bca_means(
    rows: Sequence[Sequence[float]], *, seed: int, confidence: float = 0.95, resamples: int = 10_000
) -> list[Interval]:
    """The intervals of `bca_mean` for several samples of one size, which share their draws."""
    samples = [finite_sample(values) for values in rows]
    if resamples < 100:
        raise ValueError(f"resamples is {resamples}; it must be at least 100.")
    tail = (1 - checked_confidence(confidence)) / 2
    if len({sample.size for sample in samples}) > 1:
        raise ValueError("the samples differ in size; only those of one size can share their draws.")
    if not samples:
        return []
    means = _shared_means(np.stack(samples), seed=seed, resamples=resamples)
    return [_bca(sample, own, tail) for sample, own in zip(samples, means, strict=True)]


def _bca(sample: NDArray[np.float64], means: NDArray[np.float64], tail: float) -> Interval:
    """The interval of one sample from its resampled means."""
    if (sample == sample[0]).all():
        return Interval(low=float(sample[0]), high=float(sample[0]))
    mean, resamples = sample.mean(), means.size
    rounding = 1e-12 * np.abs(sample).max()  # equal sums in another order are ties
    below = np.count_nonzero(means < mean - rounding)
    equal = np.count_nonzero(np.abs(means - mean) <= rounding)
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(float(below + equal / 2), 0.5), resamples - 0.5) / resamples)
    spread = sample - mean  # (n - 1) times the mean less the mean without one value
    acceleration = float((spread**3).sum() / (6 * (spread**2).sum() ** 1.5))  # never above 1/6

    def level(share: float) -> float:
        shifted = bias + normal.inv_cdf(share)
        return normal.cdf(bias + shifted / (1 - acceleration * shifted))

    low, high = np.quantile(means, [level(tail), level(1 - tail)])
    return Interval(low=float(low), high=float(high))


def resampled_means(sample: NDArray[np.float64], *, seed: int, resamples: int) -> NDArray[np.float64]:
    """Means of `resamples` draws with replacement, (resamples,) float64.

    Draws are made in blocks of at most 2 M indices, so memory is bounded.
    """
    generator = np.random.default_rng(seed)
    block = max(1, 2_000_000 // sample.size)
    means = np.empty(resamples)
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        draws = generator.integers(0, sample.size, size=(count, sample.size))
        means[start : start + count] = sample[draws].mean(axis=1)
    return means


def _shared_means(
    samples: NDArray[np.float64], *, seed: int, resamples: int
) -> Iterator[NDArray[np.float64]]:
    """What `resampled_means` gives for each row of samples (rows, size), with one set of draws for all."""
    if len(samples) == 1:
        yield resampled_means(samples[0], seed=seed, resamples=resamples)
        return
    size = samples.shape[1]
    generator = np.random.default_rng(seed)
    block = max(1, 2_000_000 // size)
    means = np.empty((len(samples), resamples))
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        draws = generator.integers(0, size, size=(count, size))
        places = draws + np.arange(count)[:, None] * size
        times = np.bincount(places.ravel(), minlength=count * size).reshape(count, size)
        means[:, start : start + count] = samples @ times.T.astype(np.float64) / size
    yield from means


def normal_quantile(confidence: float) -> float:
    """The z for which a standard normal lies in [-z, z] with this probability."""
    return NormalDist().inv_cdf(0.5 + checked_confidence(confidence) / 2)


def checked_confidence(confidence: float) -> float:
    """The confidence itself, or ValueError when it is not inside (0, 1)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be between 0 and 1, for example 0.95.")
    return confidence


def finite_sample(values: Sequence[float]) -> NDArray[np.float64]:
    """The values as a float64 vector, or ValueError when empty or not finite."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError("no values were given; at least one is needed.")
    if not np.isfinite(sample).all():
        raise ValueError("a value is NaN or infinite; only finite scores can be summarised.")
    return sample
