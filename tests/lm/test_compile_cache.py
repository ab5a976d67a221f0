"""The compile cache's bound."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunix_rt.lm.compile_cache import prune_compile_cache

USED = {"oldest": 100, "older": 200, "newest": 300}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Three programs of ten bytes each, by the second of their last use."""
    for name, second in USED.items():
        path = tmp_path / f"{name}-cache"
        path.write_bytes(bytes(10))
        os.utime(path, (second, second))
    return tmp_path


def left(cache: Path) -> set[str]:
    return {path.name.removesuffix("-cache") for path in cache.iterdir()}


@pytest.mark.parametrize(
    ("limit", "kept"),
    [(30, {"oldest", "older", "newest"}), (29, {"older", "newest"}), (10, {"newest"}), (9, set())],
)
def test_programs_longest_unused_go_first(cache: Path, limit: int, kept: set[str]) -> None:
    prune_compile_cache(cache, limit)
    assert left(cache) == kept


def test_program_that_was_read_lately_stays(cache: Path) -> None:
    os.utime(cache / "oldest-cache", (400, 100))
    prune_compile_cache(cache, 10)
    assert left(cache) == {"oldest"}
