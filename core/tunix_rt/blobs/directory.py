"""An object store in a folder: written by temporary file, fsync and rename."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tunix_rt.blobs.blobs import (
    CHUNK_BYTES,
    RENEWED_AFTER,
    Blob,
    BlobCorruptError,
    BlobMissingError,
    BlobsUnavailableError,
    StoredBlob,
    checked,
    is_sha256,
    key_of,
)
from tunix_rt.blobs.direct import DirectTransfers


class DirectoryBlobs:
    """Blobs as files under a root folder, which is made if it is missing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.direct: DirectTransfers | None = None
        root.mkdir(parents=True, exist_ok=True)

    def stat(self, sha256: str) -> Blob | None:
        """The blob, or None if it is not stored."""
        try:
            return Blob(sha256, (self._root / key_of(sha256)).stat().st_size)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BlobsUnavailableError(str(error)) from error

    def put_file(self, path: Path, blob: Blob) -> None:
        """Copies a file into the store. Raises BlobCorruptError if the copy has another digest."""
        target = self._root / key_of(blob.sha256)
        temporary = target.with_name(f".{blob.sha256}.{secrets.token_hex(8)}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            found = _copy_durably(path, temporary)
            if found != blob:
                raise BlobCorruptError(blob.sha256, found.sha256)
            temporary.replace(target)
            _sync_directory(target.parent)
        except OSError as error:
            raise BlobsUnavailableError(str(error)) from error
        finally:
            temporary.unlink(missing_ok=True)

    @property
    def partials(self) -> Path:
        """A folder on the same disk."""
        return self._root / "partial"

    def adopt(self, path: Path, blob: Blob) -> None:
        """Renames a durable file of `partials`."""
        target = self._root / key_of(blob.sha256)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            _sync_directory(target.parent)
        except OSError as error:
            raise BlobsUnavailableError(str(error)) from error

    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes from an offset; a read from 0 checks the digest."""
        chunks = self._chunks(sha256, offset)
        return checked(chunks, sha256) if offset == 0 else chunks

    def delete(self, sha256: str) -> None:
        """Deletes a blob, if it is stored."""
        target = self._root / key_of(sha256)
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise BlobsUnavailableError(str(error)) from error

    def renew(self, sha256: str, older_than: timedelta = RENEWED_AFTER) -> None:
        """Gives a blob the present as its time, if it is older than that."""
        path = self._root / key_of(sha256)
        try:
            if time.time() - path.stat().st_mtime >= older_than.total_seconds():
                os.utime(path)
        except FileNotFoundError as error:
            raise BlobMissingError(sha256) from error
        except OSError as error:
            raise BlobsUnavailableError(str(error)) from error

    def list(self) -> Iterator[StoredBlob]:
        """All blobs; not what is just being written."""
        try:
            for path in self._root.glob("sha256/*/*"):
                if is_sha256(path.name):
                    found = path.stat()
                    moment = datetime.fromtimestamp(found.st_mtime, UTC)
                    yield StoredBlob(path.name, found.st_size, moment)
        except OSError as error:
            raise BlobsUnavailableError(str(error)) from error

    def check(self) -> None:
        """Returns if the folder is there and can be written to."""
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise BlobsUnavailableError(f"the folder {self._root} is gone or cannot be written to")

    def _chunks(self, sha256: str, offset: int) -> Iterator[bytes]:
        try:
            with (self._root / key_of(sha256)).open("rb") as file:
                file.seek(offset)
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except FileNotFoundError as error:
            raise BlobMissingError(sha256) from error
        except OSError as error:
            raise BlobsUnavailableError(str(error)) from error


def _copy_durably(source: Path, target: Path) -> Blob:
    """Copies a file and says what was written."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
        return Blob(digest.hexdigest(), writer.tell())


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
