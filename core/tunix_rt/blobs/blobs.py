"""Bytes are stored once, under their SHA-256, and checked at every read."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tunix_rt.blobs.direct import DirectTransfers

CHUNK_BYTES = 512 * 1024
RENEWED_AFTER = timedelta(days=1)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BlobError(Exception):
    """The object store cannot do what was asked."""


class BlobMissingError(BlobError):
    """No bytes are stored under the digest."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"no bytes are stored under SHA-256 {sha256}")
        self.sha256 = sha256


class BlobCorruptError(BlobError):
    """The bytes do not have the digest under which they are stored or announced."""

    def __init__(self, sha256: str, found: str) -> None:
        super().__init__(f"the bytes of {sha256} have SHA-256 {found}")
        self.sha256 = sha256
        self.found = found


class BlobsUnavailableError(BlobError):
    """The object store does not answer."""


@dataclass(frozen=True)
class Blob:
    """Stored bytes: their digest and their number."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class StoredBlob(Blob):
    """A blob, and when it was stored, or renewed last."""

    store_time: datetime


class Blobs(Protocol):
    """An object store. Every method raises BlobsUnavailableError if it does not answer."""

    def stat(self, sha256: str) -> Blob | None:
        """The blob, or None if it is not stored."""

    def put_file(self, path: Path, blob: Blob) -> None:
        """Stores a file whose digest the caller has computed. Stored bytes are left as they are."""

    direct: DirectTransfers | None
    """How clients reach the store without a server in the middle; None if they cannot."""

    @property
    def partials(self) -> Path:
        """The folder of bytes that are on their way; what lies there is no blob."""

    def adopt(self, path: Path, blob: Blob) -> None:
        """Stores a durable file of `partials` whose digest the caller has computed; it is gone from there."""

    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes from an offset in chunks of at most 1 MiB.

        Raises BlobMissingError, and at the end of a read from 0 BlobCorruptError.
        """

    def delete(self, sha256: str) -> None:
        """Deletes a blob that nobody needs; one that is not stored is deleted already."""

    def renew(self, sha256: str, older_than: timedelta = RENEWED_AFTER) -> None:
        """Gives an old blob the present as its time: somebody is about to name it."""

    def list(self) -> Iterator[StoredBlob]:
        """All blobs."""

    def check(self) -> None:
        """Returns if the store answers."""


def is_sha256(text: str) -> bool:
    """Whether a text is a SHA-256 in lower-case hexadecimal digits."""
    return _SHA256.fullmatch(text) is not None


def key_of(sha256: str) -> str:
    """The key of a blob in the store. Raises ValueError if the text is no SHA-256."""
    if not is_sha256(sha256):
        raise ValueError(f"`{sha256[:80]}` is no SHA-256")
    return f"sha256/{sha256[:2]}/{sha256}"


def hash_file(path: Path) -> Blob:
    """The digest and size of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Blob(digest, file.tell())


def store_file(blobs: Blobs, path: Path) -> Blob:
    """Stores a file and returns its blob; bytes that are stored already are not sent."""
    blob = hash_file(path)
    if blobs.stat(blob.sha256) is None:
        blobs.put_file(path, blob)
    else:
        blobs.renew(blob.sha256)
    return blob


def fetch_file(blobs: Blobs, sha256: str, path: Path) -> None:
    """Writes a blob to a file, whole or not at all, also where several do so at once.

    Raises BlobMissingError, BlobCorruptError.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as file:
            for chunk in blobs.read(sha256):
                file.write(chunk)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def checked(chunks: Iterator[bytes], sha256: str) -> Iterator[bytes]:
    """The chunks themselves. Raises BlobCorruptError at the end if their digest is another one."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise BlobCorruptError(sha256, digest.hexdigest())
