"""Bytes of a file on their way into the object store and out of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import suppress

from tunix_rt.blobs.blobs import Blob, BlobCorruptError, BlobMissingError, Blobs, is_sha256
from tunix_rt.blobs.partial import Partial, open_partial, sweep
from tunix_rt.registry.stored_files import MAX_BLOB_BYTES, sha256_text, translated, unavailable
from tunix_rt.rpc.errors import InvalidArgument, OutOfRange, Reason, Violation
from tunix_rt.v1 import registry_service_pb2 as pb

MAX_CHUNK_BYTES = 2 * 1024 * 1024
AHEAD = 8
"""Messages that are received while earlier ones are hashed and written."""

_READ_TOGETHER = 4
_DRAIN_SECONDS = 1.0


async def upload(blobs: Blobs, groups: AsyncIterator[list[pb.UploadBlobRequest]]) -> AsyncIterator[int]:
    """Receives the bytes of one file; yields how many are there: first, and at the end.

    The bytes are no blob until size and SHA-256 are right. Those of an upload that broke off are kept for the
    next one, for a time.
    """
    first = await anext(groups, None)
    if first is None:
        raise InvalidArgument.of("sha256", "is required in the first message; the stream was empty.")
    announced = _announced(first[0])
    if await is_stored(blobs, announced):
        yield announced.size_bytes
    else:
        with translated():
            await asyncio.to_thread(sweep, blobs.partials)
            partial = await asyncio.to_thread(
                open_partial, blobs.partials, announced, resume=not first[0].data
            )
        try:
            yield partial.size_bytes
            await _receive(partial, first, groups, announced)
            await _store(blobs, partial, announced)
        finally:
            await asyncio.shield(asyncio.to_thread(partial.close))
        yield announced.size_bytes
    with suppress(TimeoutError):  # a client that is still writing may not see how its stream ended
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in groups:
                pass


async def read(blobs: Blobs, sha256: str, offset: int) -> AsyncIterator[bytes]:
    """The bytes of a file from an offset, in chunks of at most 1 MiB; from 0 their digest is checked."""
    if not is_sha256(sha256):
        raise InvalidArgument.of("sha256", sha256_text(sha256))
    if offset < 0:
        raise InvalidArgument.of("offset", f"is {offset}; it must not be negative.")
    with translated():
        blob = await asyncio.to_thread(blobs.stat, sha256)
        if blob is None:
            raise BlobMissingError(sha256)
    if offset > blob.size_bytes:
        raise InvalidArgument.of("offset", f"is {offset}, beyond the {blob.size_bytes} bytes of the file.")
    chunks = blobs.read(sha256, offset)

    def group() -> Awaitable[list[bytes]]:
        return asyncio.to_thread(lambda: list(itertools.islice(chunks, _READ_TOGETHER)))

    coming = asyncio.ensure_future(group())
    try:
        while True:
            with translated():
                ready = await coming
            if not ready:
                return
            coming = asyncio.ensure_future(group())  # read and hashed while these are sent
            for chunk in ready:
                yield chunk
    finally:
        await asyncio.gather(coming, return_exceptions=True)


async def is_stored(blobs: Blobs, announced: Blob) -> bool:
    """Whether the bytes are there; they are young again then. Raises InvalidArgument for another size."""
    with translated():
        stored = await asyncio.to_thread(blobs.stat, announced.sha256)
    if stored is None:
        return False
    if stored.size_bytes != announced.size_bytes:
        text = f"is {announced.size_bytes}, but the stored bytes of this SHA-256 are {stored.size_bytes}."
        raise InvalidArgument.of("size_bytes", text)
    with translated():
        await asyncio.to_thread(blobs.renew, announced.sha256)
    return True


def corrupt(announced: Blob, error: BlobCorruptError) -> InvalidArgument:
    """The error of bytes that are not what was announced."""
    text = f"was announced as {announced.sha256}, but the bytes have {error.found}. Send them again."
    return InvalidArgument([Violation("sha256", text)], Reason.BLOB_CORRUPT)


async def _receive(
    partial: Partial,
    group: Sequence[pb.UploadBlobRequest] | None,
    groups: AsyncIterator[list[pb.UploadBlobRequest]],
    announced: Blob,
) -> None:
    begun = False
    while group is not None:
        place = partial.size_bytes
        for message in group:
            _check_message(message, announced)
            if not message.data:
                continue
            if not begun and message.offset < place:
                with translated():
                    await asyncio.to_thread(partial.return_to, message.offset)
                place = message.offset
            if (message.offset or not begun) and message.offset != place:
                raise _gap(message.offset, place)
            begun, place = True, place + len(message.data)
        if place > announced.size_bytes:
            partial.discard()
            text = f"was announced as {announced.size_bytes}, but {place} bytes came. Announce all bytes."
            raise InvalidArgument.of("size_bytes", text)
        with translated():
            await asyncio.to_thread(partial.write, [message.data for message in group])
        if place == announced.size_bytes:
            return
        group = await anext(groups, None)
    text = (
        f"was announced as {announced.size_bytes}, but only {partial.size_bytes} bytes came. Send them all;"
        " the first response of the next stream says where to go on."
    )
    raise InvalidArgument.of("size_bytes", text)


async def _store(blobs: Blobs, partial: Partial, announced: Blob) -> None:
    try:
        path = await asyncio.to_thread(partial.complete)
    except BlobCorruptError as error:
        raise corrupt(announced, error) from error
    except OSError as error:
        raise unavailable() from error
    with translated():
        await asyncio.to_thread(blobs.adopt, path, announced)


def _announced(first: pb.UploadBlobRequest) -> Blob:
    violations = []
    if not is_sha256(first.sha256):
        violations.append(Violation("sha256", sha256_text(first.sha256)))
    if not 0 <= first.size_bytes <= MAX_BLOB_BYTES:
        text = f"is {first.size_bytes}; it must be from 0 to {MAX_BLOB_BYTES}."
        violations.append(Violation("size_bytes", text))
    if violations:
        raise InvalidArgument(violations)
    return Blob(first.sha256, first.size_bytes)


def _check_message(message: pb.UploadBlobRequest, announced: Blob) -> None:
    if len(message.data) > MAX_CHUNK_BYTES:
        text = f"has {len(message.data)} bytes; at most {MAX_CHUNK_BYTES} fit a message."
        raise InvalidArgument.of("data", text)
    if message.sha256 and message.sha256 != announced.sha256:
        raise InvalidArgument.of("sha256", "differs from the first message; one stream carries one file.")
    if message.offset < 0:
        raise InvalidArgument.of("offset", f"is {message.offset}; it must not be negative.")


def _gap(offset: int, place: int) -> OutOfRange:
    return OutOfRange(
        Reason.STREAM_GAP,
        f"The data begin at {offset}, but the next byte is {place}. Go on from there.",
        {"offset": str(offset), "committed": str(place)},
    )
