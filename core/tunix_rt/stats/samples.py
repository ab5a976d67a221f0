"""What several samples of one item say: pass@k and majority@k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

SUBSETS = 1_000  # so many subsets are drawn; where there are no more, each is taken once


def pass_at_k(correct: int, samples: int, k: int) -> float:
    """Unbiased estimate that at least one of k samples is right, for one item.

    1 - C(n - c, k) / C(n, k) with c of n samples right: the share of the subsets of size k that hold a
    right one. Chen et al., Evaluating large language models trained on code, arXiv:2107.03374 (2021).
    """
    if not 0 <= correct <= samples:
        raise ValueError(f"correct is {correct} of {samples} samples; it must be in [0, {samples}].")
    _check_k(k, samples)
    total = math.comb(samples, k)
    return (total - math.comb(samples - correct, k)) / total


def majority_at_k(
    answers: Sequence[str], right: Sequence[bool], k: int, *, seed: int, subsets: int = SUBSETS
) -> float:
    """The chance that the most frequent answer among k samples is right, for one item.

    The mean over random subsets of size k of the samples; over all of them, and without the seed, where
    there are at most `subsets`. Answers that are tied share the win. Samples with an empty answer do not
    vote; a subset without a vote is wrong. An answer whose samples are not all right counts by the
    share that are.
    """
    if len(answers) != len(right):
        raise ValueError(f"there are {len(answers)} answers and {len(right)} marks; give one for each.")
    _check_k(k, len(answers))
    names = sorted({answer for answer in answers if answer})
    if not names:
        return 0.0
    ballots = np.array([[answer == name for name in names] for answer in answers], dtype=np.float64)
    worth = (np.asarray(right, dtype=np.float64) @ ballots) / ballots.sum(axis=0)
    votes = _subsets(len(answers), k, seed=seed, subsets=subsets) @ ballots  # (subsets, answers)
    most = votes.max(axis=1, keepdims=True)
    won = (votes == most) & (most > 0)
    return float(np.mean((won @ worth) / np.maximum(won.sum(axis=1), 1)))


def _subsets(n: int, k: int, *, seed: int, subsets: int) -> NDArray[np.float64]:
    """Subsets of size k as rows of zeros and ones, (subsets, n)."""
    if math.comb(n, k) <= subsets:
        members = np.array(list(combinations(range(n), k)))
    else:
        order = np.random.default_rng(seed).random((subsets, n))
        members = np.argpartition(order, k - 1, axis=1)[:, :k]
    rows = np.zeros((len(members), n))
    np.put_along_axis(rows, members, 1.0, axis=1)
    return rows


def _check_k(k: int, samples: int) -> None:
    if not 1 <= k <= samples:
        raise ValueError(f"k is {k}; it must be in [1, {samples}], the samples of the item.")
