"""Uploads and downloads by signed URLs: this server signs, and checks what came."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from tunix_rt.blobs.blobs import (
    Blob,
    BlobCorruptError,
    BlobMissingError,
    Blobs,
    BlobsUnavailableError,
    is_sha256,
)
from tunix_rt.blobs.direct import DirectTransfers, NoSuchUploadError, PartsMissingError
from tunix_rt.registry.messages import timestamp
from tunix_rt.registry.stored_files import MAX_BLOB_BYTES, sha256_text, translated, unavailable
from tunix_rt.registry.transfers import corrupt, is_stored
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, NotFound, Reason, Violation
from tunix_rt.v1 import registry_service_pb2 as pb

MAX_ID = 1000


async def start(blobs: Blobs, request: pb.StartDirectUploadRequest) -> pb.DirectUpload:
    """The upload of a file; one without parts if it is stored."""
    blob, direct = _blob(request.sha256, request.size_bytes, "-"), _direct(blobs)
    if await is_stored(blobs, blob):
        return pb.DirectUpload()
    with translated():
        await asyncio.to_thread(direct.sweep)
        upload = await asyncio.to_thread(direct.start, blob)
    parts = [
        pb.DirectUpload.Part(
            number=part.span.number,
            offset=part.span.offset,
            size_bytes=part.span.size_bytes,
            url=part.url,
            stored=part.stored,
        )
        for part in upload.parts
    ]
    return pb.DirectUpload(upload_id=upload.upload_id, parts=parts, expire_time=timestamp(upload.expire_time))


async def complete(blobs: Blobs, request: pb.CompleteDirectUploadRequest) -> pb.CompleteDirectUploadResponse:
    """Makes a file of the parts. One that another call completed meanwhile is complete."""
    blob, direct = _blob(request.sha256, request.size_bytes, request.upload_id), _direct(blobs)
    if not await is_stored(blobs, blob):
        try:
            with _translated(request.upload_id):
                await asyncio.to_thread(direct.complete, blob, request.upload_id)
        except BlobCorruptError as error:
            raise corrupt(blob, error) from error
        except NotFound:
            if not await is_stored(blobs, blob):
                raise
    return pb.CompleteDirectUploadResponse(committed=blob.size_bytes)


async def abort(blobs: Blobs, request: pb.AbortDirectUploadRequest) -> pb.AbortDirectUploadResponse:
    """Drops the parts."""
    _blob(request.sha256, 1, request.upload_id)
    direct = _direct(blobs)
    with _translated(request.upload_id):
        await asyncio.to_thread(direct.abort, request.sha256, request.upload_id)
    return pb.AbortDirectUploadResponse()


async def sign(blobs: Blobs, request: pb.SignDownloadRequest) -> pb.SignDownloadResponse:
    """A URL of a stored file."""
    if not is_sha256(request.sha256):
        raise InvalidArgument.of("sha256", sha256_text(request.sha256))
    direct = _direct(blobs)
    with translated():
        blob = await asyncio.to_thread(blobs.stat, request.sha256)
        if blob is None:
            raise BlobMissingError(request.sha256)
        url, expires = await asyncio.to_thread(direct.sign_read, request.sha256)
    return pb.SignDownloadResponse(url=url, size_bytes=blob.size_bytes, expire_time=timestamp(expires))


def _blob(sha256: str, size_bytes: int, upload_id: str) -> Blob:
    violations = []
    if not is_sha256(sha256):
        violations.append(Violation("sha256", sha256_text(sha256)))
    if not 1 <= size_bytes <= MAX_BLOB_BYTES:
        text = f"is {size_bytes}; it must be from 1 to {MAX_BLOB_BYTES}."
        violations.append(Violation("size_bytes", text))
    if not 1 <= len(upload_id) <= MAX_ID or not upload_id.isascii() or not upload_id.isprintable():
        text = f"is `{upload_id[:80]!r}`; it must be what StartDirectUpload gave."
        violations.append(Violation("upload_id", text))
    if violations:
        raise InvalidArgument(violations)
    return Blob(sha256, size_bytes)


def _direct(blobs: Blobs) -> DirectTransfers:
    if blobs.direct is None:
        raise FailedPrecondition(
            Reason.DIRECT_TRANSFER_UNAVAILABLE,
            "Clients cannot reach this object store: it is a folder, or an S3 store without `public=` in"
            " TUNIX_RT_BLOBS. Use UploadBlob and ReadBlob.",
        )
    return blobs.direct


@contextmanager
def _translated(upload_id: str) -> Iterator[None]:
    try:
        yield
    except BlobsUnavailableError as error:
        raise unavailable() from error
    except NoSuchUploadError as error:
        raise NotFound(f"uploads/{upload_id[:80]}", "Begin again with StartDirectUpload.") from error
    except PartsMissingError as error:
        numbers = ", ".join(map(str, error.numbers))
        raise FailedPrecondition(
            Reason.PARTS_MISSING,
            f"Missing or not whole: parts {numbers}. Send them to their URLs, then complete the upload.",
            {"parts": numbers},
        ) from error
