"""The identity of a set of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath


def manifest_digest(files: Iterable[tuple[str, str]]) -> str:
    """The SHA-256 over the lines `{sha256}  {path}` of `(path, sha256)` pairs, ordered by path."""
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def is_safe_path(path: str) -> bool:
    """Whether a path is relative, normal, printable and cannot leave its folder."""
    parts = PurePosixPath(path).parts
    return (
        0 < len(path) <= 500
        and path.isprintable()
        and "\\" not in path
        and not path.startswith("/")
        and "/".join(parts) == path
        and all(part not in {".", ".."} for part in parts)
    )
