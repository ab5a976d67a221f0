"""Reads the file of a backup, and checks all of it on the way."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from tunix_rt.registry.archive import (
    FORMAT,
    HEADER,
    MANIFEST,
    ArchiveError,
    Header,
    Manifest,
    PartsDigest,
    Readable,
    TableTotal,
)

_READ_BYTES = 1024 * 1024


class Reader:
    """Reads a backup, front to back; `manifest` is known after the last entry.

    Raises ArchiveError where it is not whole: parts, files and totals must be those of the manifest.
    """

    def __init__(self, file: BinaryIO) -> None:
        with _translated():
            self._tar = tarfile.open(fileobj=file, mode="r|")  # noqa: SIM115, owns nothing but the file
            self.header, self._header_sha256 = _header(self._tar)
        self.manifest: Manifest | None = None

    def entries(self) -> Iterator[tuple[str, Readable]]:
        """The name of each part and file with its bytes, to be read before the next."""
        with _translated():
            yield from self._entries()

    def _entries(self) -> Iterator[tuple[str, Readable]]:
        found = _Found()
        while member := self._tar.next():
            self._tar.members.clear()  # type: ignore[attr-defined]  # it would keep one for each entry
            data = self._tar.extractfile(member)
            if data is None:
                raise ArchiveError(f"`{member.name[:80]}` is no file")
            if member.name == MANIFEST:
                self.manifest = _manifest(json.loads(data.read()))
                if self.manifest.header_sha256 != self._header_sha256:
                    raise ArchiveError("its header is not the one that was written")
                found.check(self.header, self.manifest)
                return
            hashed = _Hashed(data)
            yield member.name, hashed
            while hashed.read(_READ_BYTES):
                pass
            found.add(member.name, hashed)
        raise ArchiveError("it ends without its manifest: it was cut short")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"it is no backup, or cut short: {error}") from error


def _header(tar: tarfile.TarFile) -> tuple[Header, str]:
    first = tar.next()
    data = tar.extractfile(first) if first and first.name == HEADER else None
    if data is None:
        raise ArchiveError(f"its first entry is not `{HEADER}`")
    text = data.read()
    values: dict[str, Any] = json.loads(text)
    if (found := values.pop("format", None)) != FORMAT:
        raise ArchiveError(f"its format is {found}; this version reads {FORMAT}")
    header = Header(
        **{
            **values,
            "migrations": tuple(values["migrations"]),
            "tables": {name: tuple(columns) for name, columns in values["tables"].items()},
            "sequences": tuple(tuple(each) for each in values["sequences"]),
        }
    )
    return header, hashlib.sha256(text).hexdigest()


def _manifest(values: dict[str, Any]) -> Manifest:
    tables = {name: TableTotal(**total) for name, total in values["tables"].items()}
    return Manifest(**{**values, "tables": tables, "damaged": tuple(values["damaged"])})


class _Found:
    """What was found in a backup, to compare with its manifest."""

    def __init__(self) -> None:
        self._tables: dict[str, PartsDigest] = {}
        self._names, self._count, self._bytes = hashlib.sha256(), 0, 0
        self._wrong: set[str] = set()

    def add(self, name: str, data: _Hashed) -> None:
        kind, _, rest = name.partition("/")
        if kind == "blobs":
            self._names.update(f"{rest}\n".encode())
            self._count += 1
            self._bytes += data.size
            if data.digest.hexdigest() != rest:
                self._wrong.add(rest)
        elif kind == "tables":
            table, _, number = rest.partition("/")
            parts = self._tables.setdefault(table, PartsDigest())
            if number != f"{parts.count:06}":
                raise ArchiveError(f"`{name[:80]}` is not the part that comes next")
            parts.add(data.digest.digest(), data.size)
        else:
            raise ArchiveError(f"`{name[:80]}` has no place in a backup")

    def check(self, header: Header, manifest: Manifest) -> None:
        if set(manifest.tables) != set(header.tables):
            raise ArchiveError("its manifest names other tables than its header")
        for table, total in manifest.tables.items():
            parts = self._tables.get(table, PartsDigest())
            if (parts.hexdigest(), parts.size_bytes) != (total.sha256, total.size_bytes):
                raise ArchiveError(f"the rows of table `{table}` are not those that were backed up")
        if wrong := sorted(self._wrong - set(manifest.damaged)):
            raise ArchiveError(f"{len(wrong)} stored files are damaged, such as {wrong[0]}")
        found = (self._count, self._bytes, self._names.hexdigest())
        if found != (manifest.blob_count, manifest.blob_bytes, manifest.names_sha256):
            raise ArchiveError("its stored files are not those that were backed up")


class _Hashed:
    """Hashes what is read through it."""

    def __init__(self, data: Readable) -> None:
        self._data = data
        self.digest, self.size = hashlib.sha256(), 0

    def read(self, size: int = -1, /) -> bytes:
        found = self._data.read(size)
        self.digest.update(found)
        self.size += len(found)
        return found
