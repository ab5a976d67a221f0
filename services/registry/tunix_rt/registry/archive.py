"""The file of a backup: one tar with a header, tables in parts, stored files, and last a manifest."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Protocol

FORMAT = 1
PART_BYTES = 4 * 1024 * 1024
HEADER, MANIFEST = "backup.json", "manifest.json"


class ArchiveError(Exception):
    """The file is no backup, or not a whole one; the message says what is wrong."""


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none at the end."""


@dataclass(frozen=True)
class Header:
    """What a backup is of: the migrations of its schema, columns by table, and the sequences' values.

    `tables` stand in an order in which each comes after those that it refers to. A sequence is
    `(table, column, last value, whether that was given)`.
    """

    version: str
    server: str
    create_time: str
    migrations: tuple[int, ...]
    tables: Mapping[str, tuple[str, ...]]
    sequences: tuple[tuple[str, str, int, bool], ...]


@dataclass(frozen=True)
class TableTotal:
    """The rows of a table, the size of their COPY and the SHA-256 over those of its parts."""

    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What stands in a backup; `names_sha256` is over the digests of its files in their order, a line each.

    `header_sha256` is over the header's bytes. The files in `damaged` were named, but their bytes were
    missing or others.
    """

    header_sha256: str
    tables: Mapping[str, TableTotal]
    blob_count: int
    blob_bytes: int
    names_sha256: str
    damaged: tuple[str, ...]


class Writer:
    """Writes a backup, front to back."""

    def __init__(self, out: BinaryIO, header: Header) -> None:
        self._tar = tarfile.TarFile(fileobj=_Counted(out), mode="w")  # type: ignore[arg-type]
        self._parts: dict[str, PartsDigest] = {}
        self._tables: dict[str, TableTotal] = {}
        self._names, self._count, self._bytes = hashlib.sha256(), 0, 0
        self._damaged: list[str] = []
        text = _json({"format": FORMAT, **asdict(header)})
        self._header_sha256 = hashlib.sha256(text).hexdigest()
        self._add(HEADER, text)

    def part(self, table: str, data: bytes) -> None:
        """Adds the next part of a table's COPY."""
        parts = self._parts.setdefault(table, PartsDigest())
        self._add(f"tables/{table}/{parts.count:06}", data)
        parts.add(hashlib.sha256(data).digest(), len(data))

    def end_table(self, table: str, rows: int) -> None:
        """Says that a table has no more parts, and how many rows it has."""
        parts = self._parts.get(table, PartsDigest())
        self._tables[table] = TableTotal(rows, parts.size_bytes, parts.hexdigest())

    def blob(self, sha256: str, size_bytes: int, data: Readable) -> None:
        """Adds a stored file. Raises what reading raises; bytes that lack then are zeros."""
        padded = _Padded(data, size_bytes)
        self._tar.addfile(_member(f"blobs/{sha256}", size_bytes), padded)
        self._tar.members.clear()  # type: ignore[attr-defined]  # it would keep one for each entry
        self._names.update(f"{sha256}\n".encode())
        self._count += 1
        self._bytes += size_bytes
        if padded.error:
            raise padded.error

    def damaged(self, sha256: str) -> None:
        """Notes a file whose bytes are missing, or were not those of its digest."""
        self._damaged.append(sha256)

    def finish(self) -> Manifest:
        """Adds the manifest: without it a backup counts as cut short."""
        manifest = Manifest(
            header_sha256=self._header_sha256,
            tables=self._tables,
            blob_count=self._count,
            blob_bytes=self._bytes,
            names_sha256=self._names.hexdigest(),
            damaged=tuple(self._damaged),
        )
        self._add(MANIFEST, _json(asdict(manifest)))
        self._tar.close()
        return manifest

    def _add(self, name: str, data: bytes) -> None:
        self._tar.addfile(_member(name, len(data)), io.BytesIO(data))


class PartsDigest:
    """The SHA-256 over the SHA-256 of the parts of a table, their number and their size."""

    def __init__(self) -> None:
        self._digest, self.count, self.size_bytes = hashlib.sha256(), 0, 0

    def add(self, digest: bytes, size_bytes: int) -> None:
        """Adds a part by its digest."""
        self._digest.update(digest)
        self.count += 1
        self.size_bytes += size_bytes

    def hexdigest(self) -> str:
        """The digest of all parts so far."""
        return self._digest.hexdigest()


class _Counted:
    """Writes to a stream that cannot tell its place, such as a pipe."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._written = 0

    def write(self, data: bytes) -> int:
        self._out.write(data)
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written


class _Padded:
    """Reads exactly so many bytes; after an error, or an early end, zeros."""

    def __init__(self, data: Readable, size: int) -> None:
        self._data = data
        self._left = size
        self.error: Exception | None = None

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        found = b""
        if self.error is None and wanted:
            try:
                found = self._data.read(wanted)
            except Exception as error:  # told by `blob` once the entry is complete
                self.error = error
        found += bytes(wanted - len(found))
        self._left -= wanted
        if not self._left and self.error is None:
            try:
                self._data.read(1)  # the end, where the digest is checked
            except Exception as error:
                self.error = error
        return found


class Chunks:
    """Reads from an iterator of bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; all of them if negative."""
        while size < 0 or len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest += chunk
        cut = len(self._rest) if size < 0 else size
        found, self._rest = self._rest[:cut], self._rest[cut:]
        return found


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o600
    return member


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()
