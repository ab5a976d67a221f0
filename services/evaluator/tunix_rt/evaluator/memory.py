"""How much memory the engine's models may take, and which of them have to go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

VARIABLE = "TUNIX_RT_ENGINE_MEMORY_BYTES"
_SHARE = 0.6
_CONTROL_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class NoRoomError(Exception):
    """The models in use leave too little memory for now."""


class TooLargeError(Exception):
    """A model needs more memory than all models together may take; `figures` are in bytes."""

    def __init__(self, *, weights: int, cache: int, limit: int) -> None:
        super().__init__(
            f"The model needs {size_text(weights)} for its weights and at least {size_text(cache)} for its "
            f"cache, but the engine may take {size_text(limit)}. Set TUNIX_RT_ENGINE_MEMORY higher, or use a "
            "smaller model."
        )
        self.figures = {"weights_bytes": weights, "cache_bytes": cache, "limit_bytes": limit}


@dataclass(frozen=True)
class Share:
    """What a model holds: a base that others may share, and what is its own, both in bytes."""

    base: str
    base_bytes: int
    own_bytes: int


def total_bytes(shares: Iterable[Share]) -> int:
    """The memory of some models, of which each base counts once."""
    shares = list(shares)
    bases = {share.base: share.base_bytes for share in shares}
    return sum(bases.values()) + sum(share.own_bytes for share in shares)


def given_up(idle: Mapping[str, Share], kept: Sequence[Share], limit: int) -> list[str]:
    """The idle models, the first ones, without which the others and `kept` take at most `limit` bytes.

    Raises NoRoomError, and gives none up, where all of them are not enough.
    """
    if total_bytes(kept) > limit:
        raise NoRoomError
    left = dict(idle)
    dropped = []
    for name in idle:
        if total_bytes([*left.values(), *kept]) <= limit:
            break
        del left[name]
        dropped.append(name)
    return dropped


def memory_limit(environment: Mapping[str, str]) -> int:
    """The bytes of `TUNIX_RT_ENGINE_MEMORY_BYTES`, or 60 % of the device's or the machine's memory."""
    if given := environment.get(VARIABLE):
        return int(given)
    stats = jax.devices()[0].memory_stats() or {}
    return int(_SHARE * (stats.get("bytes_limit") or machine_bytes()))


def machine_bytes() -> int:
    """The memory of the machine, or of the control group where that is less."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, _CONTROL_GROUPS):
        if path.exists() and (text := path.read_text().strip()).isdigit():
            sizes.append(int(text))
    return min(sizes)


def size_text(size: int) -> str:
    """A size for people, in decimal units."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
