"""Ships what a child writes to the registry: every item once, whatever outages come between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.jobs.remote import BUG_PATIENCE, Backoff, answer, wait_for_event
from tunix_rt.jobs.tail import Batch, Measured, Tail, log_lines, metric_points
from tunix_rt.rpc.errors import Internal, OutOfRange, Reason, Unavailable
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.v1 import job_service_pb2 as pb

if TYPE_CHECKING:
    # The generated stubs have the asyncio classes for type checkers only.
    from tunix_rt.v1.job_service_pb2_grpc import JobServiceAsyncStub, JobServiceStub

    JobsStub = JobServiceStub | JobServiceAsyncStub

POLL_SECONDS = 0.2
_WINDOW = 8
_ACK_SECONDS = 60.0

T = TypeVar("T")


class Shipped:
    """How much of a file is stored durably by the registry."""

    def __init__(self) -> None:
        self._bytes = 0
        self._grown = asyncio.Event()

    def advance(self, size: int) -> None:
        """Notes that so many bytes, from the start, are stored."""
        if size > self._bytes:
            self._bytes = size
            self._grown.set()
            self._grown = asyncio.Event()

    async def reaches(self, size: int) -> None:
        """Waits until so many bytes are stored."""
        while self._bytes < size:
            await self._grown.wait()


async def ship_metrics(
    jobs: JobsStub,
    directory: JobDirectory,
    name: str,
    attempt: int,
    ended: asyncio.Event,
    *,
    shipped: Shipped | None = None,
) -> None:
    """Streams `metrics.jsonl` until `ended` is set and every point is acknowledged.

    Reconnects for as long as the registry is away, and while the job runs also for
    as long as it fails. Raises LeaseLost, and ValueError for a line that is no
    metric line.
    """
    first = pb.StreamMetricsRequest(name=name, attempt=attempt)
    tail = Tail(directory.metrics, metric_points, keep_partial=False)
    await _ship(
        jobs.StreamMetrics,
        first,
        lambda batch: pb.StreamMetricsRequest(offset=batch.offset, columns=metric_columns(batch.items)),
        tail,
        ended,
        shipped or Shipped(),
    )


async def ship_logs(
    jobs: JobsStub, directory: JobDirectory, name: str, attempt: int, ended: asyncio.Event
) -> None:
    """Streams `log.txt` until `ended` is set and every line is acknowledged; as `ship_metrics`."""
    first = pb.StreamLogsRequest(name=name, attempt=attempt)
    tail = Tail(directory.log, log_lines, keep_partial=True)
    await _ship(
        jobs.StreamLogs,
        first,
        lambda batch: pb.StreamLogsRequest(offset=batch.offset, lines=batch.items),
        tail,
        ended,
        Shipped(),
    )


def metric_columns(points: Sequence[Measured]) -> pb.MetricColumns:
    """The points in columns: far less work for the registry than as many `MetricPoint`."""
    codes: dict[str, int] = {}
    indices = [codes.setdefault(point.metric, len(codes)) for point in points]
    return pb.MetricColumns(
        metrics=codes,
        metric_indices=indices,
        steps=[point.step for point in points],
        values=[point.value for point in points],
        measure_times_us=[point.time_us for point in points],
    )


async def _ship(
    open_stream: Any,
    first: Any,
    request: Callable[[Batch[T]], Any],
    tail: Tail[T],
    ended: asyncio.Event,
    shipped: Shipped,
) -> None:
    backoff, bugs = Backoff(), 0
    while True:
        stream = _Stream(open_stream())
        try:
            await _ship_once(stream, first, request, tail, ended, shipped)
            return
        except (Unavailable, OutOfRange, Internal) as error:
            counts = ended.is_set() and not stream.stored and not isinstance(error, Unavailable)
            bugs = bugs + 1 if counts else 0
            if bugs >= BUG_PATIENCE:
                raise
            if stream.stored:
                backoff.reset()
            get_logger().warning("stream broken; reconnecting", error=error.message)
        finally:
            stream.cancel()
        await backoff.pause()


async def _ship_once(
    stream: _Stream,
    first: Any,
    request: Callable[[Batch[T]], Any],
    tail: Tail[T],
    ended: asyncio.Event,
    shipped: Shipped,
) -> None:
    await stream.write(first)
    tail.seek(await stream.committed())
    shipped.advance(tail.acknowledged_bytes)
    unacknowledged: deque[int] = deque()
    while True:
        finished = ended.is_set()
        batch = tail.read(ended=finished) if len(unacknowledged) < _WINDOW else None
        if batch:
            await stream.write(request(batch))
            unacknowledged.append(batch.end)
        elif unacknowledged:
            committed = await stream.committed()
            stream.stored = True
            tail.acknowledge(committed)
            shipped.advance(tail.acknowledged_bytes)
            while unacknowledged and unacknowledged[0] <= committed:
                unacknowledged.popleft()
        elif finished:
            await stream.close()
            return
        else:
            await wait_for_event(ended, POLL_SECONDS)


class _Stream:
    """A call in both directions that raises the errors of the API."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.stored = False

    async def write(self, request: Any) -> None:
        """Sends a request; a call that has ended raises what it ended with."""
        try:
            async with asyncio.timeout(_ACK_SECONDS):
                await answer(self._call.write(request))
        except asyncio.InvalidStateError:
            await self._raise_end()
        except TimeoutError as error:
            raise _silent() from error

    async def committed(self) -> int:
        """The count in the next response."""
        try:
            async with asyncio.timeout(_ACK_SECONDS):
                response = await answer(self._call.read())
        except TimeoutError as error:
            raise _silent() from error
        if response is grpc.aio.EOF:
            await self._raise_end()
        return int(response.committed)

    async def close(self) -> None:
        """Says that no more comes; what is stored stays stored if nobody hears it."""
        try:
            async with asyncio.timeout(_ACK_SECONDS):
                await answer(self._call.done_writing())
                await answer(self._call.read())
        except (TimeoutError, asyncio.InvalidStateError, Unavailable) as error:
            get_logger().info("stream closed without an answer", error=str(error))

    def cancel(self) -> None:
        """Ends the call if it is open."""
        self._call.cancel()

    async def _raise_end(self) -> None:
        code = await self._call.code()
        if code is not grpc.StatusCode.OK:
            await answer(_raise(self._call))
        raise Unavailable(Reason.SERVICE_UNAVAILABLE, "The registry ended the stream.")


async def _raise(call: Any) -> None:
    raise grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


def _silent() -> Unavailable:
    return Unavailable(
        Reason.SERVICE_UNAVAILABLE, f"The registry has not answered for {_ACK_SECONDS:.0f} seconds."
    )
