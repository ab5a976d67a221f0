"""Transfers between a client and the object store without a server in the middle, by signed URLs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from tunix_rt.blobs.blobs import Blob

MIN_PART_BYTES = 8 * 1024 * 1024
MAX_PARTS = 1000
URLS_LAST = timedelta(hours=1)
KEPT_FOR = timedelta(days=3)


class NoSuchUploadError(Exception):
    """The upload was completed, aborted or swept."""


class PartsMissingError(Exception):
    """Parts have not come, or not whole."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__(f"parts {numbers} are missing")
        self.numbers = numbers


@dataclass(frozen=True)
class Span:
    """A part of a file; `number` counts from 1."""

    number: int
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class SignedPart:
    """A part, the URL that takes it by PUT, and whether it is there already."""

    span: Span
    url: str
    stored: bool


@dataclass(frozen=True)
class SignedUpload:
    """An open upload; its URLs are good until `expire_time`."""

    upload_id: str
    parts: tuple[SignedPart, ...]
    expire_time: datetime


class DirectTransfers(Protocol):
    """Signs URLs of an object store. Every method raises BlobsUnavailableError if it does not answer."""

    def start(self, blob: Blob) -> SignedUpload:
        """The upload of a blob: the one that is open, or a new one."""

    def complete(self, blob: Blob, upload_id: str) -> None:
        """Reads back what came and makes it a blob if it has its digest; it is dropped otherwise.

        Raises NoSuchUploadError, PartsMissingError, BlobCorruptError.
        """

    def abort(self, sha256: str, upload_id: str) -> None:
        """Drops what came. An upload that does not exist is aborted already."""

    def sign_read(self, sha256: str) -> tuple[str, datetime]:
        """A URL from which a blob can be read, and until when."""

    def sweep(self, older_than: timedelta = KEPT_FOR) -> None:
        """Aborts uploads that were begun so long ago."""


def spans_of(size_bytes: int) -> list[Span]:
    """The parts of a file: 8 MiB each, or a thousandth of it; the last one has the rest.

    The same size gives the same parts, so that an upload can go on without a record of them.
    """
    part = max(MIN_PART_BYTES, -(-size_bytes // MAX_PARTS))
    starts = range(0, max(size_bytes, 1), part)
    return [Span(i, start, min(part, size_bytes - start)) for i, start in enumerate(starts, 1)]
