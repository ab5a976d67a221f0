"""Bytes in the object store: uploads, reads, and whether files are there."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tunix_rt.blobs.blobs import (
    Blob,
    BlobCorruptError,
    BlobMissingError,
    Blobs,
    BlobsUnavailableError,
    is_sha256,
)
from tunix_rt.blobs.manifest import is_safe_path
from tunix_rt.rpc.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Reason,
    Unavailable,
    Violation,
)
from tunix_rt.rpc.streams import discard
from tunix_rt.v1 import artifact_pb2, registry_service_pb2

MAX_BLOB_BYTES = 2**40
MAX_CHUNK_BYTES = 2 * 1024 * 1024
MAX_FILES = 1000


@contextmanager
def translated() -> Iterator[None]:
    """Turns errors of the object store into errors of the API."""
    try:
        yield
    except BlobMissingError as error:
        missing = NotFound(f"blobs/{error.sha256}", "Upload it with UploadBlob.")
        missing.reason = Reason.BLOB_MISSING
        raise missing from error
    except BlobCorruptError as error:
        raise Internal(
            Reason.BLOB_CORRUPT,
            f"The stored bytes of {error.sha256} have SHA-256 {error.found}. Upload the file again.",
            {"sha256": error.sha256, "found": error.found},
        ) from error
    except (BlobsUnavailableError, OSError) as error:
        raise Unavailable(
            Reason.BLOBS_UNAVAILABLE,
            "The object store does not answer. Nothing was recorded by this call; repeat it.",
        ) from error


async def store(blobs: Blobs, path: Path, blob: Blob) -> None:
    """Stores a file whose digest is known; bytes that are stored already are left as they are."""
    with translated():
        if await asyncio.to_thread(blobs.stat, blob.sha256) is None:
            await asyncio.to_thread(blobs.put_file, path, blob)
        else:
            await asyncio.to_thread(blobs.renew, blob.sha256)


async def upload(
    blobs: Blobs, messages: AsyncIterator[registry_service_pb2.UploadBlobRequest]
) -> AsyncIterator[int]:
    """Receives the bytes of one file; yields how many are stored durably: first, and at the end.

    The bytes lie in a temporary file until size and SHA-256 are right.
    """
    first = await anext(messages, None)
    if first is None:
        raise InvalidArgument.of("sha256", "is required in the first message; the stream was empty.")
    announced = _announced(first)
    with translated():
        stored = await asyncio.to_thread(blobs.stat, announced.sha256)
    if stored is not None:
        if stored.size_bytes != announced.size_bytes:
            text = f"is {announced.size_bytes}, but the stored bytes of this SHA-256 are {stored.size_bytes}."
            raise InvalidArgument.of("size_bytes", text)
        with translated():
            await asyncio.to_thread(blobs.renew, announced.sha256)
        yield stored.size_bytes
        await discard(messages)
        return
    yield 0
    with tempfile.TemporaryDirectory(prefix="tunix-rt-upload-") as folder:
        path = Path(folder) / "bytes"
        await _spool(path, first, messages, announced)
        with translated():
            await asyncio.to_thread(blobs.put_file, path, announced)
    yield announced.size_bytes


async def read(blobs: Blobs, sha256: str, offset: int) -> AsyncIterator[bytes]:
    """The bytes of a file from an offset, in chunks of at most 1 MiB; from 0 their digest is checked."""
    if not is_sha256(sha256):
        raise InvalidArgument.of("sha256", _sha256_text(sha256))
    if offset < 0:
        raise InvalidArgument.of("offset", f"is {offset}; it must not be negative.")
    with translated():
        blob = await asyncio.to_thread(blobs.stat, sha256)
        if blob is None:
            raise BlobMissingError(sha256)
    if offset > blob.size_bytes:
        raise InvalidArgument.of("offset", f"is {offset}, beyond the {blob.size_bytes} bytes of the file.")
    chunks = blobs.read(sha256, offset)
    while True:
        with translated():
            chunk = await asyncio.to_thread(next, chunks, None)
        if chunk is None:
            return
        yield chunk


def file_violations(files: Sequence[artifact_pb2.File], field: str) -> list[Violation]:
    """What is wrong with a list of files, apart from whether they are stored."""
    if not files:
        return [Violation(field, "is required. Give at least one file.")]
    if len(files) > MAX_FILES:
        return [Violation(field, f"are {len(files)}; at most {MAX_FILES}.")]
    found = []
    seen: set[str] = set()
    for index, file in enumerate(files):
        place = f"{field}[{index}]"
        if not is_safe_path(file.path):
            text = f"is `{file.path[:200]!r}`; it must be relative, with `/`, without `..`."
            found.append(Violation(f"{place}.path", text))
        if file.path in seen:
            found.append(Violation(f"{place}.path", f"is `{file.path[:200]}`, which is there twice."))
        seen.add(file.path)
        if not is_sha256(file.sha256):
            found.append(Violation(f"{place}.sha256", _sha256_text(file.sha256)))
        if not 0 <= file.size_bytes <= MAX_BLOB_BYTES:
            text = f"is {file.size_bytes}; it must be from 0 to {MAX_BLOB_BYTES}."
            found.append(Violation(f"{place}.size_bytes", text))
    return found


async def require_stored(blobs: Blobs, files: Sequence[artifact_pb2.File], field: str) -> None:
    """Raises FailedPrecondition, reason BLOB_MISSING, naming all files that are not stored."""
    with translated():
        found = await asyncio.to_thread(lambda: [blobs.stat(file.sha256) for file in files])
    missing = [file for file, blob in zip(files, found, strict=True) if blob is None]
    if missing:
        paths = ", ".join(f"{file.path} ({file.sha256})" for file in missing)
        raise FailedPrecondition(
            Reason.BLOB_MISSING,
            f"Not stored: {paths}. Upload them with UploadBlob, then repeat the call.",
            {"files": ",".join(file.path for file in missing)},
        )
    wrong = [
        Violation(f"{field}[{i}].size_bytes", f"is {file.size_bytes}; {blob.size_bytes} bytes are stored.")
        for i, (file, blob) in enumerate(zip(files, found, strict=True))
        if blob and blob.size_bytes != file.size_bytes
    ]
    if wrong:
        raise InvalidArgument(wrong)


def _announced(first: registry_service_pb2.UploadBlobRequest) -> Blob:
    violations = []
    if not is_sha256(first.sha256):
        violations.append(Violation("sha256", _sha256_text(first.sha256)))
    if not 0 <= first.size_bytes <= MAX_BLOB_BYTES:
        text = f"is {first.size_bytes}; it must be from 0 to {MAX_BLOB_BYTES}."
        violations.append(Violation("size_bytes", text))
    if violations:
        raise InvalidArgument(violations)
    return Blob(first.sha256, first.size_bytes)


async def _spool(
    path: Path,
    first: registry_service_pb2.UploadBlobRequest,
    messages: AsyncIterator[registry_service_pb2.UploadBlobRequest],
    announced: Blob,
) -> None:
    digest, received = hashlib.sha256(), 0
    message: registry_service_pb2.UploadBlobRequest | None = first
    with path.open("wb") as file:
        while message is not None:
            _check_chunk(message, announced)
            received += len(message.data)
            if received > announced.size_bytes:
                text = (
                    f"was announced as {announced.size_bytes}, but {received} bytes came. Announce all bytes."
                )
                raise InvalidArgument.of("size_bytes", text)
            digest.update(message.data)
            with translated():
                await asyncio.to_thread(file.write, message.data)
            if received == announced.size_bytes:
                break
            message = await anext(messages, None)
    if received < announced.size_bytes:
        text = f"was announced as {announced.size_bytes}, but only {received} bytes came. Send them all."
        raise InvalidArgument.of("size_bytes", text)
    if digest.hexdigest() != announced.sha256:
        text = (
            f"was announced as {announced.sha256}, but the bytes have {digest.hexdigest()}. Send them again."
        )
        raise InvalidArgument([Violation("sha256", text)], Reason.BLOB_CORRUPT)


def _check_chunk(message: registry_service_pb2.UploadBlobRequest, announced: Blob) -> None:
    if len(message.data) > MAX_CHUNK_BYTES:
        text = f"has {len(message.data)} bytes; at most {MAX_CHUNK_BYTES} fit a message."
        raise InvalidArgument.of("data", text)
    if message.sha256 and message.sha256 != announced.sha256:
        raise InvalidArgument.of("sha256", "differs from the first message; one stream carries one file.")


def _sha256_text(value: str) -> str:
    return f"is `{value[:80]}`; it must be a SHA-256 in 64 lower-case hexadecimal digits."
