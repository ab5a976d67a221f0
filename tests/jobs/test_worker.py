"""The worker: claims, holds the lease, and ends a job once, whatever its handler does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tunix_rt.jobs.worker import ClaimedJob, Worker
from tunix_rt.rpc.errors import Aborted, FailedPrecondition, Internal, Reason, Unavailable
from tunix_rt.rpc.status import code_of, reason_of
from tunix_rt.v1 import job_service_pb2 as pb
from tunix_rt.v1.job_pb2 import JobStatus

RELEASED = pb.FinishJobRequest(released=pb.Released())
DONE = pb.FinishJobRequest(run=pb.RunOutcome(model_artifact="artifacts/a"))


def job(name: str = "runs/r", attempt: int = 2) -> pb.Job:
    return pb.Job(name=name, status=JobStatus(attempt=attempt))


async def finishes(server: Any, count: int = 1) -> list[pb.FinishJobRequest]:
    async with asyncio.timeout(20), server.jobs.stored:
        await server.jobs.stored.wait_for(lambda: len(server.jobs.finished) >= count)
    finished: list[pb.FinishJobRequest] = server.jobs.finished
    return finished


async def work(
    server: Any,
    handle: Callable[[ClaimedJob], Awaitable[pb.FinishJobRequest]],
    until: Callable[[asyncio.Event], Awaitable[None]],
) -> None:
    """Runs a worker until the job is as wanted, then stops it."""
    stop = asyncio.Event()
    worker = Worker(server.stub(), kind="run", worker_id="host-run-0", handle=handle, lease_seconds=5)
    running = asyncio.ensure_future(worker.run(stop))
    try:
        await until(stop)
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await running


async def test_jobs_are_handled_one_after_the_other(server: Any) -> None:
    async def handle(claimed: ClaimedJob) -> pb.FinishJobRequest:
        return pb.FinishJobRequest(run=pb.RunOutcome(model_artifact=f"artifacts/{claimed.attempt}"))

    server.jobs.queue.put_nowait(job("runs/a", 1))
    server.jobs.queue.put_nowait(job("runs/b", 3))

    async def until(stop: asyncio.Event) -> None:
        await finishes(server, 2)

    await work(server, handle, until)
    told = [(each.name, each.attempt, each.run.model_artifact) for each in server.jobs.finished]
    assert told == [("runs/a", 1, "artifacts/1"), ("runs/b", 3, "artifacts/3")]
    claim = server.jobs.claims[0]
    assert (claim.kind, claim.worker, claim.lease.seconds) == ("run", "host-run-0", 5)


async def test_progress_and_facts_are_reported_before_the_end(server: Any) -> None:
    async def handle(claimed: ClaimedJob) -> pb.FinishJobRequest:
        claimed.progress, claimed.progress_total = 3, 4
        claimed.facts = {"rows": 12}
        claimed.weights_digest = "abc"
        return DONE

    server.jobs.queue.put_nowait(job())

    async def until(stop: asyncio.Event) -> None:
        await finishes(server)

    await work(server, handle, until)
    last = server.jobs.renewals[-1]
    assert (last.progress, last.progress_total, last.facts["rows"], last.weights_digest) == (3, 4, 12, "abc")


async def test_the_handler_hears_of_a_cancellation(server: Any) -> None:
    server.jobs.cancel_requested = True

    async def handle(claimed: ClaimedJob) -> pb.FinishJobRequest:
        await claimed.interruption()
        assert claimed.cancel_requested.is_set()
        return pb.FinishJobRequest(cancelled=pb.Cancelled())

    server.jobs.queue.put_nowait(job())

    async def until(stop: asyncio.Event) -> None:
        await finishes(server)

    await work(server, handle, until)
    assert server.jobs.finished[0].WhichOneof("outcome") == "cancelled"


async def test_a_shutdown_gives_the_job_back(server: Any) -> None:
    started = asyncio.Event()

    async def handle(claimed: ClaimedJob) -> pb.FinishJobRequest:
        started.set()
        await claimed.interruption()
        assert claimed.stopping.is_set()
        return RELEASED

    server.jobs.queue.put_nowait(job())

    async def until(stop: asyncio.Event) -> None:
        await started.wait()

    await work(server, handle, until)
    assert [each.WhichOneof("outcome") for each in server.jobs.finished] == ["released"]


async def test_a_lost_lease_finishes_nothing(server: Any) -> None:
    lost = asyncio.Event()

    async def handle(claimed: ClaimedJob) -> pb.FinishJobRequest:
        server.jobs.fenced = True
        await claimed.interruption()
        assert claimed.lease_lost.is_set()
        lost.set()
        return DONE

    server.jobs.queue.put_nowait(job())

    async def until(stop: asyncio.Event) -> None:
        await lost.wait()

    await work(server, handle, until)
    assert server.jobs.finished == []


@pytest.mark.parametrize(
    ("error", "reason", "retryable"),
    [
        (FailedPrecondition(Reason.BLOB_MISSING, "gone"), "BLOB_MISSING", False),
        (Unavailable(Reason.BLOBS_UNAVAILABLE, "away"), "BLOBS_UNAVAILABLE", True),
        (Internal(Reason.CHILD_FAILED, "crashed"), "CHILD_FAILED", True),
        (RuntimeError("surprise"), "INTERNAL", True),
    ],
)
async def test_an_error_ends_the_attempt(server: Any, error: Exception, reason: str, retryable: bool) -> None:
    async def handle(claimed: ClaimedJob) -> pb.FinishJobRequest:
        raise error

    server.jobs.queue.put_nowait(job())

    async def until(stop: asyncio.Event) -> None:
        await finishes(server)

    await work(server, handle, until)
    finished = server.jobs.finished[0]
    assert reason_of(finished.error) == reason
    assert str(error) in finished.error.message
    assert finished.retryable is retryable
    assert code_of(finished.error) is getattr(error, "code", Internal.code)


async def test_finishing_is_repeated_through_an_outage(server: Any) -> None:
    server.jobs.finish_errors = [
        Unavailable(Reason.DATABASE_UNAVAILABLE, "away"),
        Internal(Reason.INTERNAL, "a bug"),
    ]
    handled = asyncio.Event()

    async def handle(claimed: ClaimedJob) -> pb.FinishJobRequest:
        await server.stop()
        handled.set()
        return DONE

    server.jobs.queue.put_nowait(job())

    async def until(stop: asyncio.Event) -> None:
        await handled.wait()
        await server.start()
        await finishes(server)

    await work(server, handle, until)
    assert [each.WhichOneof("outcome") for each in server.jobs.finished] == ["run"]


async def test_a_fenced_finish_is_not_repeated(server: Any) -> None:
    server.jobs.finish_errors = [Aborted(Reason.LEASE_LOST, "fenced")]

    async def handle(claimed: ClaimedJob) -> pb.FinishJobRequest:
        return DONE

    server.jobs.queue.put_nowait(job("runs/a"))
    server.jobs.queue.put_nowait(job("runs/b"))

    async def until(stop: asyncio.Event) -> None:
        await finishes(server)

    await work(server, handle, until)
    assert [each.name for each in server.jobs.finished] == ["runs/b"]


async def test_a_worker_waits_for_a_registry_that_is_away(server: Any) -> None:
    async def handle(claimed: ClaimedJob) -> pb.FinishJobRequest:
        return DONE

    server.jobs.queue.put_nowait(job())
    server.stub()
    await server.stop()

    async def until(stop: asyncio.Event) -> None:
        await asyncio.sleep(0)
        await server.start()
        await finishes(server)

    await work(server, handle, until)
    assert len(server.jobs.finished) == 1
