"""Bytes of a blob that are on their way: what has come is kept, so that a broken upload can go on."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from tunix_rt.blobs.blobs import CHUNK_BYTES, Blob, BlobCorruptError

KEPT_FOR = timedelta(days=3)
_FLUSHED_BYTES = 32 * 1024 * 1024


class Partial:
    """The first bytes of a blob, in a file that only its holder writes.

    The digest is computed as bytes are written; bytes that were there are read once for it. A holder in
    another thread waits until a write is done.
    """

    def __init__(self, path: Path, file: BinaryIO, blob: Blob) -> None:
        self.path = path
        self._file = file
        self._blob = blob
        self._lock = threading.Lock()
        self._digest = hashlib.sha256()
        self._flushed = 0
        self._flush: threading.Thread | None = None
        self.size_bytes = 0

    def write(self, chunks: Iterable[bytes]) -> None:
        """Writes what comes next."""
        with self._lock:
            for chunk in chunks:
                self._digest.update(chunk)
                self._file.write(chunk)
                self.size_bytes += len(chunk)
            self._flush_beside()

    def return_to(self, offset: int) -> None:
        """Drops the bytes from an offset on: they come again."""
        with self._lock:
            self._load(offset)

    def complete(self) -> Path:
        """The path of the file, whole and durable. Raises BlobCorruptError, and keeps nothing then."""
        with self._lock:
            found = self._digest.hexdigest()
            if (found, self.size_bytes) != (self._blob.sha256, self._blob.size_bytes):
                self.path.unlink(missing_ok=True)
                raise BlobCorruptError(self._blob.sha256, found)
            self._file.flush()
            self._end_flush()
            os.fsync(self._file.fileno())
            return self.path

    def discard(self) -> None:
        """Keeps nothing."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leaves the bytes to the next upload."""
        with self._lock:
            self._end_flush()
            self._file.close()

    def _flush_beside(self) -> None:
        """Writes to the disk while more comes, so that little is left to do at the end."""
        if self.size_bytes - self._flushed >= _FLUSHED_BYTES and not (self._flush and self._flush.is_alive()):
            self._flushed = self.size_bytes
            self._flush = threading.Thread(target=os.fdatasync, args=(self._file.fileno(),), daemon=True)
            self._flush.start()

    def _end_flush(self) -> None:
        if self._flush:
            self._flush.join()

    def _load(self, size: int) -> None:
        self._file.seek(0)
        self._digest, self.size_bytes, self._flushed = hashlib.sha256(), 0, 0
        for chunk in _chunks(self._file, size):
            self._digest.update(chunk)
            self.size_bytes += len(chunk)
        self._file.truncate()


def open_partial(folder: Path, blob: Blob, *, resume: bool = True) -> Partial:
    """The longest start of a blob that an earlier upload left; an empty one if there is none.

    Of one that another upload still writes, what it has so far is copied: several may send the same bytes,
    and an upload whose client is gone holds nobody up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held: list[Path] = []
    if resume:
        for path in _left(folder, blob):
            file = _locked(path)
            if file is not None:
                partial = Partial(path, file, blob)
                partial._load(blob.size_bytes)
                return partial
            held.append(path)
    path = folder / f"{blob.sha256}.{secrets.token_hex(8)}"
    file = path.open("x+b")
    fcntl.flock(file, fcntl.LOCK_EX)
    partial = Partial(path, file, blob)
    if held:
        with held[0].open("rb") as other:
            partial.write(_chunks(other, blob.size_bytes))
    return partial


def sweep(folder: Path, older_than: timedelta = KEPT_FOR) -> int:
    """Removes what nobody has written to for so long; how many files went."""
    before, swept = time.time() - older_than.total_seconds(), 0
    for path in folder.glob("*.*"):
        try:
            if path.stat().st_mtime < before and (file := _locked(path)) is not None:
                path.unlink()
                file.close()
                swept += 1
        except FileNotFoundError:
            continue  # another sweep was first
    return swept


def _left(folder: Path, blob: Blob) -> list[Path]:
    """The starts that are there, the longest first."""
    sizes: dict[Path, int] = {}
    for path in folder.glob(f"{blob.sha256}.*"):
        try:
            sizes[path] = path.stat().st_size
        except FileNotFoundError:
            continue  # it was completed meanwhile
    return sorted(sizes, key=lambda path: -sizes[path])


def _locked(path: Path) -> BinaryIO | None:
    """The file, if nobody else holds it and it still has its name."""
    try:
        file = path.open("r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                return file
        except BlockingIOError:
            pass
        file.close()
    except FileNotFoundError:
        pass
    return None


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := file.read(min(CHUNK_BYTES, size))):
        size -= len(chunk)
        yield chunk
