"""A worker: claims jobs, holds their lease while a handler works, and ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from google.protobuf import duration_pb2, struct_pb2

from tunix_rt.jobs.remote import CALL_SECONDS, Backoff, LeaseLost, answer, persist, wait_for_event
from tunix_rt.rpc.errors import ApiError, Internal, Reason, Unavailable
from tunix_rt.rpc.status import to_status
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.v1 import job_service_pb2 as pb

if TYPE_CHECKING:
    # The generated stubs have the asyncio classes for type checkers only.
    from tunix_rt.v1.job_service_pb2_grpc import JobServiceAsyncStub, JobServiceStub

_CLAIM_WAIT_SECONDS = 20.0
_HEARTBEAT_SECONDS = 2.0
_SHUTDOWN_SECONDS = 10.0


@dataclass
class ClaimedJob:
    """A job that this worker holds. The next renewal reports what the handler sets.

    `stopping` is set when the server shuts down: save and return `Released`.
    After `lease_lost` another attempt owns the job: stop, and finish nothing.
    """

    job: pb.Job
    stopping: asyncio.Event
    cancel_requested: asyncio.Event = field(default_factory=asyncio.Event)
    lease_lost: asyncio.Event = field(default_factory=asyncio.Event)
    progress: int = 0
    progress_total: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    weights_digest: str = ""
    reported_facts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The resource name of the job."""
        return self.job.name

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self.job.status.attempt

    async def interruption(self) -> None:
        """Waits until the handler is to stop, for whichever of the three reasons."""
        events = (self.lease_lost, self.cancel_requested, self.stopping)
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(*waits)


Handler = Callable[[ClaimedJob], Awaitable[pb.FinishJobRequest]]


class Worker:
    """Handles the jobs of one kind, one after the other; `working` says whether it has one in hand.

    `handle` returns a FinishJobRequest with the outcome alone. An ApiError that it
    raises ends the attempt with that error, which is retryable if it is
    UNAVAILABLE or INTERNAL; any other exception is an INTERNAL error.
    """

    def __init__(
        self,
        jobs: JobServiceStub | JobServiceAsyncStub,
        *,
        kind: str,
        worker_id: str,
        handle: Handler,
        lease_seconds: float = 30.0,
    ) -> None:
        self._jobs: Any = jobs
        self._kind = kind
        self._worker_id = worker_id
        self._handle = handle
        self._lease_seconds = lease_seconds
        self.working = False

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set and the job in hand is ended or given back."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                job = await self._claim(stop)
            except ApiError as error:
                get_logger().warning("claim failed", worker=self._worker_id, error=error.message)
                await backoff.pause(stop)
                continue
            backoff.reset()
            if job is not None:
                with structlog.contextvars.bound_contextvars(job=job.name, attempt=job.status.attempt):
                    await self._work(ClaimedJob(job, stop))

    async def _claim(self, stop: asyncio.Event) -> pb.Job | None:
        request = pb.ClaimJobRequest(
            kind=self._kind,
            worker=self._worker_id,
            lease=_duration(self._lease_seconds),
            wait=_duration(_CLAIM_WAIT_SECONDS),
        )
        call = asyncio.ensure_future(
            answer(self._jobs.ClaimJob(request, timeout=_CLAIM_WAIT_SECONDS + CALL_SECONDS))
        )
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((call, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                return None
            response = call.result()
            return response.job if response.HasField("job") else None
        finally:
            await _cancel(call, stopped)

    async def _work(self, claimed: ClaimedJob) -> None:
        get_logger().info("claimed", worker=self._worker_id)
        self.working = True
        renewal = asyncio.ensure_future(self._renew(claimed))
        try:
            outcome = await self._outcome(claimed)
            if outcome is not None:
                await self._finish(claimed, outcome)
        except LeaseLost:
            get_logger().warning("lease lost; nothing is finished")
        except ApiError as error:
            get_logger().error("the outcome could not be reported", error=error.message)
        finally:
            self.working = False
            await _cancel(renewal)

    async def _outcome(self, claimed: ClaimedJob) -> pb.FinishJobRequest | None:
        try:
            outcome = await self._handle(claimed)
        except LeaseLost:
            raise
        except ApiError as error:
            get_logger().warning("attempt failed", reason=error.reason, error=error.message)
            outcome = failure(error)
        except Exception as error:
            get_logger().error("attempt failed", exc_info=error)
            text = f"An error inside the worker: {type(error).__name__}: {error}. Its log has the trace."
            outcome = failure(Internal(Reason.INTERNAL, text))
        if claimed.lease_lost.is_set():
            raise LeaseLost
        return outcome

    async def _finish(self, claimed: ClaimedJob, outcome: pb.FinishJobRequest) -> None:
        request = pb.FinishJobRequest()
        request.CopyFrom(outcome)
        request.name, request.attempt = claimed.name, claimed.attempt
        how = request.WhichOneof("outcome")
        gave_up = asyncio.Event()
        patience = asyncio.ensure_future(_set_after(claimed.stopping, _SHUTDOWN_SECONDS, gave_up))
        try:
            await persist(lambda: self._report(claimed), "RenewLease", until=gave_up)
            await persist(
                lambda: answer(self._jobs.FinishJob(request, timeout=CALL_SECONDS)),
                "FinishJob",
                until=gave_up,
            )
        finally:
            await _cancel(patience)
        get_logger().info("finished", outcome=how)

    async def _renew(self, claimed: ClaimedJob) -> None:
        backoff = Backoff()
        pause = min(self._lease_seconds / 3, _HEARTBEAT_SECONDS)
        while True:
            try:
                await self._report(claimed)
            except LeaseLost as error:
                get_logger().warning("lease lost", error=error.message)
                claimed.lease_lost.set()
                return
            except ApiError as error:
                get_logger().warning("renewal failed", error=error.message)
                await backoff.pause()
                continue
            backoff.reset()
            await asyncio.sleep(pause)

    async def _report(self, claimed: ClaimedJob) -> None:
        facts, news = struct_pb2.Struct(), dict(claimed.facts)
        if news != claimed.reported_facts:
            facts.update(news)
        request = pb.RenewLeaseRequest(
            name=claimed.name,
            attempt=claimed.attempt,
            lease=_duration(self._lease_seconds),
            progress=claimed.progress,
            progress_total=claimed.progress_total,
            facts=facts,
            weights_digest=claimed.weights_digest,
        )
        response = await answer(self._jobs.RenewLease(request, timeout=CALL_SECONDS))
        claimed.reported_facts = news
        if response.cancel_requested:
            claimed.cancel_requested.set()


def failure(error: ApiError, *, retryable: bool | None = None) -> pb.FinishJobRequest:
    """The outcome of an attempt that failed; UNAVAILABLE and INTERNAL errors are retryable unless said."""
    again = isinstance(error, Unavailable | Internal) if retryable is None else retryable
    return pb.FinishJobRequest(error=to_status(error), retryable=again)


async def _set_after(event: asyncio.Event, seconds: float, target: asyncio.Event) -> None:
    await event.wait()
    await wait_for_event(target, seconds)
    target.set()


async def _cancel(*futures: asyncio.Future[Any]) -> None:
    for future in futures:
        future.cancel()
    for ended in await asyncio.gather(*futures, return_exceptions=True):
        if isinstance(ended, Exception) and not isinstance(ended, ApiError):
            get_logger().error("background task failed", exc_info=ended)


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromMilliseconds(round(seconds * 1000))
    return duration
