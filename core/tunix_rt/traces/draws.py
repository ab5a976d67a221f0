"""Pseudo-random draws that are the same on every machine and for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Draws:
    """A stream of draws: the n-th one is made from SHA-256 of the seed and n."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included; the bias of 64 bits is below 1e-17 here."""
        digest = hashlib.sha256(f"{self._seed}:{self._count}".encode()).digest()
        self._count += 1
        return low + int.from_bytes(digest[:8], "big") % (high - low + 1)

    def choice(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[self.between(0, len(items) - 1)]

    def two(self, items: Sequence[Item]) -> tuple[Item, Item]:
        """Two different items."""
        first = self.between(0, len(items) - 1)
        second = self.between(0, len(items) - 2)
        return items[first], items[second + (second >= first)]
