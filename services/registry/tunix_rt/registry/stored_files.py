"""Files in the object store: whether they are well named, and whether they are there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
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
from tunix_rt.v1 import artifact_pb2

MAX_BLOB_BYTES = 2**40
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
        raise unavailable() from error


def unavailable() -> Unavailable:
    """The error of an object store that does not answer."""
    return Unavailable(
        Reason.BLOBS_UNAVAILABLE,
        "The object store does not answer. Nothing was recorded by this call; repeat it.",
    )


async def store(blobs: Blobs, path: Path, blob: Blob) -> None:
    """Stores a file whose digest is known; bytes that are stored already are left as they are."""
    with translated():
        if await asyncio.to_thread(blobs.stat, blob.sha256) is None:
            await asyncio.to_thread(blobs.put_file, path, blob)
        else:
            await asyncio.to_thread(blobs.renew, blob.sha256)


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
            found.append(Violation(f"{place}.sha256", sha256_text(file.sha256)))
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


async def require_one(blobs: Blobs, sha256: str) -> None:
    """Raises FailedPrecondition, reason BLOB_MISSING, unless the bytes of a digest are stored."""
    with translated():
        found = await asyncio.to_thread(blobs.stat, sha256)
    if found is None:
        raise FailedPrecondition(
            Reason.BLOB_MISSING,
            f"Not stored: {sha256}. Upload it with UploadBlob, then repeat the call.",
            {"sha256": sha256},
        )


def sha256_text(value: str) -> str:
    """What is wrong with a text that is no SHA-256."""
    return f"is `{value[:80]}`; it must be a SHA-256 in 64 lower-case hexadecimal digits."
