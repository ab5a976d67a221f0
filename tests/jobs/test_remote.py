"""Errors of calls and of the object store, as errors of the API, and how long they are borne."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tunix_rt.blobs.blobs import BlobCorruptError, BlobMissingError, BlobsUnavailableError
from tunix_rt.jobs import remote
from tunix_rt.jobs.remote import BUG_PATIENCE, LeaseLost, answer, api_error, in_store, persist
from tunix_rt.rpc.errors import (
    Aborted,
    AlreadyExists,
    ApiError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Reason,
    Unavailable,
    Violation,
)
from tunix_rt.rpc.status import DETAILS_KEY, to_status


def failed_call(error: ApiError) -> grpc.aio.AioRpcError:
    """What a caller sees of an error that a server raised."""
    details = grpc.aio.Metadata((DETAILS_KEY, to_status(error).SerializeToString()))
    return grpc.aio.AioRpcError(error.code, grpc.aio.Metadata(), details, error.message)


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument([Violation("spec.steps", "is 0"), Violation("run_id", "is bad")]),
        AlreadyExists("runs/a", "`runs/a` exists.", Reason.REQUEST_ID_REUSED),
        FailedPrecondition(Reason.DATASET_NOT_SEALED, "open", {"resource": "datasets/d"}),
        Aborted(Reason.INTERNAL, "a race"),
        Internal(Reason.INTERNAL, "a bug"),
    ],
)
def test_an_error_passes_through_a_service_unchanged(error: ApiError) -> None:
    passed = api_error(failed_call(error))
    assert type(passed) is type(error)
    assert to_status(passed) == to_status(error)


def test_a_missing_resource_is_still_named() -> None:
    passed = api_error(failed_call(NotFound("datasets/gone")))
    assert isinstance(passed, NotFound)
    assert passed.resource == "datasets/gone"


def test_a_lost_lease_is_known() -> None:
    assert isinstance(api_error(failed_call(Aborted(Reason.LEASE_LOST, "fenced"))), LeaseLost)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"])
def test_silence_is_an_outage(code: str) -> None:
    error = grpc.aio.AioRpcError(grpc.StatusCode[code], grpc.aio.Metadata(), grpc.aio.Metadata(), "gone")
    passed = api_error(error)
    assert isinstance(passed, Unavailable)
    assert passed.reason is Reason.SERVICE_UNAVAILABLE


def test_an_outage_behind_the_service_keeps_its_reason() -> None:
    passed = api_error(failed_call(Unavailable(Reason.DATABASE_UNAVAILABLE, "away")))
    assert isinstance(passed, Unavailable)
    assert passed.reason is Reason.DATABASE_UNAVAILABLE


async def test_a_call_that_the_server_cancelled_is_an_outage() -> None:
    async def call() -> None:
        raise asyncio.CancelledError

    with pytest.raises(Unavailable):
        await answer(call())


async def test_a_caller_that_is_cancelled_is_cancelled() -> None:
    task = asyncio.ensure_future(answer(asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BlobsUnavailableError("away"), Reason.BLOBS_UNAVAILABLE),
        (BlobMissingError("a" * 64), Reason.BLOB_MISSING),
        (BlobCorruptError("a" * 64, "b" * 64), Reason.BLOB_CORRUPT),
    ],
)
async def test_errors_of_the_object_store_are_errors_of_the_api(error: Exception, reason: Reason) -> None:
    def call() -> None:
        raise error

    with pytest.raises(ApiError) as caught:
        await in_store(call)
    assert caught.value.reason is reason
    assert isinstance(caught.value, Unavailable) is isinstance(error, BlobsUnavailableError)


def fails(*errors: ApiError) -> Callable[[], Any]:
    left = list(errors)

    async def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pause(self: Any, until: Any = None) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(remote.Backoff, "pause", pause)


AWAY = Unavailable(Reason.SERVICE_UNAVAILABLE, "away")
BUG = Internal(Reason.INTERNAL, "bug")


async def test_an_outage_is_borne_for_as_long_as_it_lasts(quick: None) -> None:
    assert await persist(fails(*[AWAY] * 50), "call") == "done"


async def test_a_bug_is_borne_for_a_while_only(quick: None) -> None:
    assert await persist(fails(*[BUG] * (BUG_PATIENCE - 1)), "call") == "done"
    with pytest.raises(Internal):
        await persist(fails(*[BUG] * BUG_PATIENCE), "call")
    assert (
        await persist(fails(*[BUG] * (BUG_PATIENCE - 1), AWAY, *[BUG] * (BUG_PATIENCE - 1)), "call") == "done"
    )


async def test_an_answer_that_will_not_change_is_raised_at_once(quick: None) -> None:
    with pytest.raises(LeaseLost):
        await persist(fails(LeaseLost(), AWAY), "call")


async def test_patience_ends_when_it_is_told_to(quick: None) -> None:
    until = asyncio.Event()
    until.set()
    with pytest.raises(Unavailable):
        await persist(fails(AWAY), "call", until=until)


async def test_pauses_grow_to_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def wait(event: asyncio.Event, seconds: float) -> bool:
        waited.append(seconds)
        return False

    monkeypatch.setattr(remote, "wait_for_event", wait)
    backoff = remote.Backoff()
    for _ in range(9):
        await backoff.pause()
    assert 0.07 < waited[0] < 0.13
    assert all(3.7 < seconds < 6.3 for seconds in waited[6:])
    backoff.reset()
    await backoff.pause()
    assert waited[-1] < 0.13
