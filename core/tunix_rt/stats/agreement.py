"""How far a rater agrees with the truth, and a rate that is corrected for the rater's errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunix_rt.stats.intervals import Interval, checked_confidence, normal_quantile

_BLOCK = 2_000_000  # numbers at a time, so memory is bounded


def kappa(table: Sequence[Sequence[float]]) -> float:
    """Cohen's kappa of a square table of counts, the truth's labels as rows, the rater's as columns.

    (p_o - p_e) / (1 - p_e), p_o the share on the diagonal and p_e = Σ_k row share k · column share k.
    Cohen, Educational and Psychological Measurement 20 (1960). A label that the truth never has is a row
    of zeros. Raises ValueError for a table that is empty, negative or not square, and where both give one
    and the same label always, which leaves nothing to agree about.
    """
    counts = np.asarray(table, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not (counts >= 0).all() or not counts.sum():
        raise ValueError("the table must be square, with counts that are not negative and not all 0.")
    found = float(_kappas(counts[None])[0])
    if math.isnan(found):
        raise ValueError("truth and rater have one label only; kappa needs two.")
    return found


def bootstrap_kappa(
    tables: Sequence[Sequence[Sequence[float]]],
    *,
    seed: int,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of the kappa of the summed tables, one table an item.

    Items are drawn with replacement, so the outputs of one item stay together. Resamples in which only
    one label occurs have no kappa and are left out; ValueError if none has one.
    """
    each = np.asarray(tables, dtype=np.float64)
    if each.ndim != 3 or not len(each):
        raise ValueError("no tables were given; one for each item is needed.")
    kappa(each.sum(axis=0).tolist())
    tail = (1 - checked_confidence(confidence)) / 2
    items, flat = len(each), each.reshape(len(each), -1)
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // items)
    found = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        times = generator.multinomial(items, np.full(items, 1 / items), size=size)
        found.append(_kappas((times @ flat).reshape(size, *each.shape[1:])))
    values = np.concatenate(found)
    values = values[~np.isnan(values)]
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high))


def rogan_gladen(apparent: float, sensitivity: float, specificity: float) -> float:
    """The true rate behind an apparent one, cut to [0, 1].

    (a + Sp - 1) / (Se + Sp - 1): the apparent rate a is Se of the true rate and 1 - Sp of the rest.
    Rogan and Gladen, American Journal of Epidemiology 107 (1978). Raises ValueError for a rater that is
    no better than chance, Se + Sp <= 1.
    """
    return min(max((apparent + specificity - 1) / _youden(sensitivity, specificity), 0.0), 1.0)


def rogan_gladen_interval(
    apparent: float,
    count: int,
    *,
    sensitivity: float,
    sensitivity_count: int,
    specificity: float,
    specificity_count: int,
    confidence: float = 0.95,
) -> Interval:
    """Interval of the corrected rate when sensitivity and specificity are estimates too, cut to [0, 1].

    With n, n_Se, n_Sp the counts, z the two-sided normal quantile and the shrunk rates
    a' = (n·a + z²/2) / (n + z²), Se' = (n_Se·Se + 1) / (n_Se + 2), Sp' likewise:
    t = (a' + Sp' - 1) / (Se' + Sp' - 1), moved by
    2z²·(t·Se'(1-Se')/n_Se' - (1-t)·Sp'(1-Sp')/n_Sp'), ± z times
    √(a'(1-a')/n' + t²·Se'(1-Se')/n_Se' + (1-t)²·Sp'(1-Sp')/n_Sp') / (Se' + Sp' - 1),
    a prime at a count the shrunk one's. Lang and Reiczigel, Preventive Veterinary Medicine 113 (2014).
    Raises ValueError as `rogan_gladen` does, and for counts that are not positive.
    """
    _youden(sensitivity, specificity)
    if min(count, sensitivity_count, specificity_count) <= 0:
        raise ValueError("a count is not positive; each rate needs observations.")
    z = normal_quantile(confidence)
    n, n_se, n_sp = count + z * z, sensitivity_count + 2, specificity_count + 2
    a = (count * apparent + z * z / 2) / n
    se = (sensitivity_count * sensitivity + 1) / n_se
    sp = (specificity_count * specificity + 1) / n_sp
    youden = se + sp - 1
    if youden <= 0:
        return Interval(low=0.0, high=1.0)
    t = (a + sp - 1) / youden
    var_se, var_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
    middle = t + 2 * z * z * (t * var_se - (1 - t) * var_sp)
    spread = z * math.sqrt(a * (1 - a) / n + t * t * var_se + (1 - t) ** 2 * var_sp) / youden
    return Interval(low=min(max(middle - spread, 0.0), 1.0), high=max(min(middle + spread, 1.0), 0.0))


def _kappas(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """The kappa of each table, (tables, labels, labels) to (tables,); NaN where there is none."""
    shares = tables / tables.sum(axis=(1, 2), keepdims=True)
    observed = np.trace(shares, axis1=1, axis2=2)
    expected = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.float64] = np.where(
            expected > 1 - 1e-12, np.nan, (observed - expected) / (1 - expected)
        )
    return found


def _youden(sensitivity: float, specificity: float) -> float:
    for name, value in (("sensitivity", sensitivity), ("specificity", specificity)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; it must be in [0, 1].")
    index = sensitivity + specificity - 1
    if index <= 0:
        raise ValueError(
            f"sensitivity {sensitivity:g} and specificity {specificity:g} are no better than chance."
        )
    return index
