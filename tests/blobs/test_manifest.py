from __future__ import annotations

import hashlib

import pytest

from tunix_rt.blobs.manifest import is_safe_path, manifest_digest


def test_the_digest_is_that_of_the_sorted_lines() -> None:
    text = f"{'b' * 64}  a.json\n{'a' * 64}  b/c.bin\n"
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert manifest_digest([("b/c.bin", "a" * 64), ("a.json", "b" * 64)]) == expected


@pytest.mark.parametrize("path", ["a", "a/b.json", "a b"])
def test_safe_paths(path: str) -> None:
    assert is_safe_path(path)


@pytest.mark.parametrize("path", ["", "/a", "..", "a/../b", "./a", "a//b", "a/", "a\\b", "a\nb", "a" * 501])
def test_unsafe_paths(path: str) -> None:
    assert not is_safe_path(path)
