"""Which traces share a row, in which order: pure functions of lengths, seed and epoch."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np


def permutation(count: int, *, seed: int, epoch: int, purpose: str) -> np.ndarray:
    """An order of `count` things that depends on the arguments alone, on every machine and version.

    Sorts by the raw output of a Philox generator whose key is a hash of seed, epoch and purpose.
    """
    digest = hashlib.sha256(f"{purpose}:{seed}:{epoch}".encode()).digest()
    key = np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64)
    return np.argsort(np.random.Philox(key=key).random_raw(count), kind="stable")


def pack(lengths: Sequence[int], capacity: int, order: Sequence[int]) -> list[list[int]]:
    """Rows of indices whose lengths sum to at most `capacity`, by best-fit decreasing.

    Each index goes where it leaves the least room; `order` decides among equal lengths, so the rows'
    sizes depend on the lengths alone. Every length must fit in a row.
    """
    ranked = sorted(order, key=lambda index: -lengths[index])
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free places, row), sorted
    for index in ranked:
        length = lengths[index]
        found = bisect_left(room, (length, -1))
        if found == len(room):
            rows.append([])
            free, row = capacity, len(rows) - 1
        else:
            free, row = room.pop(found)
        rows[row].append(index)
        insort(room, (free - length, row))
    return rows


def epoch_rows(lengths: Sequence[int], capacity: int, *, seed: int, epoch: int) -> list[list[int]]:
    """The packed rows of one epoch in the order of training; every epoch has equally many rows."""
    order = [int(index) for index in permutation(len(lengths), seed=seed, epoch=epoch, purpose="traces")]
    rows = pack(lengths, capacity, order)
    return [rows[index] for index in permutation(len(rows), seed=seed, epoch=epoch, purpose="rows")]
