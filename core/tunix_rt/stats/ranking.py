"""Ranks of systems on the same items: what a paired test does not separate is tied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunix_rt.stats.clustered import MIN_CLUSTERS
from tunix_rt.stats.paired import mcnemar_exact, sign_flip

LEVEL = 0.05


@dataclass(frozen=True)
class Place:
    """The rank of a system, from 1, and its p-value against the best of that rank.

    `p_value` is None for that best system, and for one without an item in common with it.
    """

    rank: int
    p_value: float | None


def rank_tied(
    scores: NDArray[np.float64], *, seed: int, families: Sequence[str] = (), level: float = LEVEL
) -> list[Place]:
    """The places of systems that are given best first.

    `scores` (systems, items) in [0, 1], NaN where a system has no score. A rank begins with its best system.
    Those after it share it until one is separated from that best one: p < `level`, by `paired_p_value` on the
    items of both. The next rank begins there and counts the systems before it (1, 1, 3).
    """
    codes = _codes(families)
    if codes is not None and codes.size != scores.shape[1]:
        raise ValueError(f"there are {scores.shape[1]} items and {codes.size} families; name one for each.")
    places: list[Place] = []
    best = 0
    for at in range(len(scores)):
        units = _units(scores[best], scores[at], codes)
        apart = surely_separated(units, level)
        p_value = None if apart or at == best else _p_value(units, seed=seed)
        if apart or (p_value is not None and p_value < level):
            best, p_value = at, None
        places.append(Place(best + 1, p_value))
    return places


def paired_p_value(
    baseline: NDArray[np.float64], candidate: NDArray[np.float64], *, seed: int, families: Sequence[str] = ()
) -> float | None:
    """The two-sided p-value by which systems are told apart on the items of both; None if there are none.

    NaN marks items without a score. Where each item of both has a family and there are MIN_CLUSTERS or more,
    signs are flipped by family, else by item: by McNemar's exact test where all differences are -1, 0 or 1,
    with which it then agrees.
    """
    return _p_value(_units(baseline, candidate, _codes(families)), seed=seed)


def surely_separated(differences: NDArray[np.float64], level: float = LEVEL) -> bool:
    """Whether a bound alone shows that the sign-flip test gives less than `level`.

    P(|Σ ±d| >= S) <= 2·exp(-S² / (2·Σd²)) for random signs: Hoeffding, JASA 58 (1963), theorem 2.
    """
    square, total = float(differences @ differences), float(differences.sum())
    return square > 0 and 2 * math.exp(-total * total / (2 * square)) < level


def _units(
    baseline: NDArray[np.float64], candidate: NDArray[np.float64], codes: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """The differences whose signs are flipped: those of the items, or their sums over families."""
    differences = candidate - baseline
    both = ~np.isnan(differences)
    if codes is None:
        return differences[both]
    own = codes[both]
    if (own < 0).any() or np.unique(own).size < MIN_CLUSTERS:
        return differences[both]
    return np.bincount(own, weights=differences[both]).astype(np.float64)


def _p_value(units: NDArray[np.float64], *, seed: int) -> float | None:
    if units.size == 0:
        return None
    if np.isin(units, (-1.0, 0.0, 1.0)).all():
        return mcnemar_exact(int(np.count_nonzero(units > 0)), int(np.count_nonzero(units < 0)))
    return sign_flip(units.tolist(), seed=seed)


def _codes(families: Sequence[str]) -> NDArray[np.int64] | None:
    """The families as numbers, -1 for items without one; None if nothing is known of families."""
    if not any(families):
        return None
    numbers = {name: number for number, name in enumerate(dict.fromkeys(filter(None, families)))}
    return np.array([numbers.get(name, -1) for name in families], dtype=np.int64)
