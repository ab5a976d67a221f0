"""Calls to other services and to the object store, with the errors of the API and patience."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2

from tunix_rt.blobs.blobs import BlobCorruptError, BlobMissingError, BlobsUnavailableError
from tunix_rt.rpc.errors import (
    Aborted,
    AlreadyExists,
    ApiError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Violation,
)
from tunix_rt.rpc.status import status_of, violations_of
from tunix_rt.rpc.telemetry import get_logger

CALL_SECONDS = 10.0
BUG_PATIENCE = 100  # about eight minutes: time to replace a registry with a bug
_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})
_PLAIN: dict[grpc.StatusCode, type[ApiError]] = {
    kind.code: kind
    for kind in (Unauthenticated, FailedPrecondition, OutOfRange, ResourceExhausted, Unimplemented)
}

P = ParamSpec("P")
T = TypeVar("T")


class LeaseLost(Aborted):
    """Another attempt has the job, or it has ended: stop, and finish nothing."""

    def __init__(self, message: str = "The lease of this attempt is lost.") -> None:
        super().__init__(Reason.LEASE_LOST, message)


def api_error(error: grpc.RpcError, service: str = "registry") -> ApiError:
    """The error that a failed call stands for, with its reason and bad fields."""
    status = status_of(error)
    info = _error_info(status)
    reason = Reason(info.reason) if info.reason in set(Reason) else Reason.INTERNAL
    message, metadata = status.message, dict(info.metadata)
    code: grpc.StatusCode = error.code()
    if code in _AWAY:
        known = reason if code is grpc.StatusCode.UNAVAILABLE and info.reason else Reason.SERVICE_UNAVAILABLE
        return Unavailable(known, f"The {service} does not answer: {message}", {"service": service})
    if code is grpc.StatusCode.ABORTED:
        return LeaseLost(message) if reason is Reason.LEASE_LOST else Aborted(reason, message, metadata)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        bad = violations_of(status) or [("", message)]
        return InvalidArgument([Violation(field, text) for field, text in bad], reason)
    if code is grpc.StatusCode.NOT_FOUND:
        return NotFound(metadata.get("resource", message))
    if code is grpc.StatusCode.ALREADY_EXISTS:
        return AlreadyExists(metadata.get("resource", ""), message, reason)
    return _PLAIN.get(code, Internal)(reason, message, metadata)


async def answer(call: Awaitable[T], service: str = "registry") -> T:
    """The answer of a call. Raises only errors of the API, LeaseLost among them.

    A status CANCELLED that a stopping server sent surfaces in grpc.aio as a
    CancelledError; here it is an Unavailable, unless this task was cancelled.
    """
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise api_error(error, service) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unavailable(Reason.SERVICE_UNAVAILABLE, f"The {service} ended the call.") from error


async def in_store(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a blocking call to the object store in a thread.

    Raises Unavailable if the store does not answer, FailedPrecondition if the
    bytes are missing or corrupt.
    """
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except BlobsUnavailableError as error:
        raise Unavailable(
            Reason.BLOBS_UNAVAILABLE, f"The object store does not answer: {error}. Check TUNIX_RT_BLOBS."
        ) from error
    except BlobMissingError as error:
        raise FailedPrecondition(
            Reason.BLOB_MISSING,
            f"The object store has no bytes under {error.sha256}. Restore them or record the files again.",
            {"sha256": error.sha256},
        ) from error
    except BlobCorruptError as error:
        raise FailedPrecondition(
            Reason.BLOB_CORRUPT,
            f"The stored bytes of {error.sha256} have SHA-256 {error.found}. Restore them from a backup.",
            {"sha256": error.sha256, "found": error.found},
        ) from error


class Backoff:
    """Growing pauses between attempts, from 0.1 to 5 seconds, with jitter."""

    def __init__(self) -> None:
        self._pause = 0.1

    def reset(self) -> None:
        """Begins again with the shortest pause."""
        self._pause = 0.1

    async def pause(self, until: asyncio.Event | None = None) -> None:
        """Waits, or until the event is set."""
        seconds = self._pause * random.uniform(0.75, 1.25)
        self._pause = min(self._pause * 2, 5.0)
        await wait_for_event(until or asyncio.Event(), seconds)


async def wait_for_event(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set within the time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


async def persist(call: Callable[[], Awaitable[T]], what: str, *, until: asyncio.Event | None = None) -> T:
    """Repeats a call for as long as the other side is away.

    Gives up with the last error when `until` is set, and after a hundred INTERNAL
    errors in a row; other errors are raised at once.
    """
    backoff, bugs = Backoff(), 0
    while True:
        try:
            return await call()
        except Unavailable as error:
            if until is not None and until.is_set():
                raise
            bugs = 0
            get_logger().warning("retrying", what=what, error=error.message)
        except Internal as error:
            bugs += 1
            if bugs >= BUG_PATIENCE or (until is not None and until.is_set()):
                raise
            get_logger().warning("retrying", what=what, error=error.message, failures=bugs)
        await backoff.pause(until)


def _error_info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
            break
    return info
