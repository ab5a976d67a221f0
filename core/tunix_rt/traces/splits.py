"""Splits decided by content, so that a prompt is always on the same side."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate

from tunix_rt.traces.trace import TraceError, Violation


def assign_split(digest: str, fractions: Mapping[str, float], seed: int) -> str:
    """The split of a content digest: a pure function, whatever the order of `fractions`.

    SHA-256 of seed and digest gives a point in [0, 1); splits divide it in the order of their names.
    The fractions must be positive and sum to 1.
    """
    hashed = hashlib.sha256(f"{seed}:{digest}".encode()).digest()
    point = int.from_bytes(hashed[:8], "big") / 2**64
    edges = _edges(tuple(fractions.items()))
    return next((name for name, edge in edges if point < edge), edges[-1][0])


@lru_cache
def _edges(fractions: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    """Where each split ends, in the order of their names. Raises TraceError."""
    check_fractions(dict(fractions))
    names, shares = zip(*sorted(fractions), strict=True)
    return tuple(zip(names, accumulate(shares), strict=True))


def check_fractions(fractions: Mapping[str, float], path: str = "split_fractions") -> None:
    """Raises TraceError with every fault of the split fractions."""
    violations = [
        Violation(path=f"{path}.{name}", message=f"is {share}; it must be more than 0 and at most 1.")
        for name, share in sorted(fractions.items())
        if not (math.isfinite(share) and 0 < share <= 1)
    ]
    total = math.fsum(fractions.values())
    if not violations and not math.isclose(total, 1.0, abs_tol=1e-6):
        message = f"sums to {total:g}; the shares must sum to 1, for example train 0.8, test 0.2."
        violations.append(Violation(path=path, message=message))
    if violations:
        raise TraceError(violations)
