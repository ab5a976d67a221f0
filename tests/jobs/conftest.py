"""A job service in memory, for what a worker sees of it: acknowledgements, outages, fences."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.errors import Aborted, ApiError, Internal, OutOfRange, Reason
from tunix_rt.rpc.server import Server
from tunix_rt.v1 import job_service_pb2 as pb
from tunix_rt.v1.job_service_pb2_grpc import (
    JobServiceServicer,
    JobServiceStub,
    add_JobServiceServicer_to_server,
)


def points_of(request: pb.StreamMetricsRequest) -> list[tuple[str, int, float]]:
    columns = request.columns
    names = [columns.metrics[index] for index in columns.metric_indices]
    return list(zip(names, columns.steps, columns.values, strict=True))


class MemoryJobs(JobServiceServicer):
    """Stores what is streamed; its own fields say how it misbehaves.

    After `drop_every` stored batches a stream is cut before the last is acknowledged;
    `failures` batches fail with INTERNAL.
    """

    def __init__(self) -> None:
        self.points: list[Any] = []
        self.lines: list[str] = []
        self.streams = 0
        self.largest = 0
        self.drop_every = 0
        self.failures = 0
        self.fenced = False
        self.stored = asyncio.Condition()
        self.queue: asyncio.Queue[pb.Job] = asyncio.Queue()
        self.claims: list[pb.ClaimJobRequest] = []
        self.renewals: list[pb.RenewLeaseRequest] = []
        self.finished: list[pb.FinishJobRequest] = []
        self.finish_errors: list[ApiError] = []
        self.cancel_requested = False
        self.renewed = asyncio.Event()

    async def StreamMetrics(self, requests: Any, context: Any) -> AsyncIterator[pb.StreamMetricsResponse]:
        async for committed in self._store(requests, self.points, points_of):
            yield pb.StreamMetricsResponse(committed=committed)

    async def StreamLogs(self, requests: Any, context: Any) -> AsyncIterator[pb.StreamLogsResponse]:
        async for committed in self._store(requests, self.lines, lambda request: request.lines):
            yield pb.StreamLogsResponse(committed=committed)

    async def _store(self, requests: Any, kept: list[Any], items_of: Any) -> AsyncIterator[int]:
        self.streams += 1
        stored = 0
        first = True
        async for request in requests:
            if self.fenced:
                raise Aborted(Reason.LEASE_LOST, "Another attempt has the job.")
            if first:
                assert request.name == "runs/r"
                assert request.attempt == 2
                first = False
                yield len(kept)
                continue
            if self.failures:
                self.failures -= 1
                raise Internal(Reason.INTERNAL, "A bug, as told.")
            items = list(items_of(request))
            self.largest = max(self.largest, len(items))
            if request.offset > len(kept):
                raise OutOfRange(Reason.STREAM_GAP, "A gap.")
            kept.extend(items[len(kept) - request.offset :])
            async with self.stored:
                self.stored.notify_all()
            stored += 1
            if self.drop_every and stored >= self.drop_every:
                raise OutOfRange(Reason.STREAM_GAP, "Cut, as told.")
            yield len(kept)

    async def ClaimJob(self, request: pb.ClaimJobRequest, context: Any) -> pb.ClaimJobResponse:
        self.claims.append(request)
        return pb.ClaimJobResponse(job=await self.queue.get())

    async def RenewLease(self, request: pb.RenewLeaseRequest, context: Any) -> pb.RenewLeaseResponse:
        if self.fenced:
            raise Aborted(Reason.LEASE_LOST, "Another attempt has the job.")
        self.renewals.append(request)
        self.renewed.set()
        return pb.RenewLeaseResponse(cancel_requested=self.cancel_requested)

    async def FinishJob(self, request: pb.FinishJobRequest, context: Any) -> pb.Job:
        if self.finish_errors:
            raise self.finish_errors.pop(0)
        self.finished.append(request)
        async with self.stored:
            self.stored.notify_all()
        return pb.Job(name=request.name)


class JobServer:
    """The job service at one address, which can go away and come back."""

    def __init__(self) -> None:
        self.jobs = MemoryJobs()
        self._port = 0
        self._server: Server | None = None
        self._channel: grpc.aio.Channel | None = None

    async def start(self) -> None:
        self._server = Server(f"127.0.0.1:{self._port}", ["tunix_rt.v1.JobService"])
        add_JobServiceServicer_to_server(self.jobs, self._server.grpc_server)
        await self._server.start()
        self._port = self._server.port

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def stub(self) -> Any:
        self._channel = self._channel or open_channel(f"127.0.0.1:{self._port}")
        return JobServiceStub(self._channel)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        await self.stop()


@pytest.fixture
async def server() -> AsyncIterator[JobServer]:
    server = JobServer()
    await server.start()
    yield server
    await server.close()
