"""JobService: the queue as workers see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, TypeVar

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.registry import artifacts, enqueue, finish, queue, scores
from tunix_rt.registry.database import Database
from tunix_rt.registry.logs import LogWriter
from tunix_rt.registry.metric_writer import MetricWriter
from tunix_rt.registry.paging import wait_seconds
from tunix_rt.registry.telemetry import Ingested
from tunix_rt.registry.wakeups import LOOK_AGAIN_SECONDS, Wakeups
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.rpc.streams import read_ahead, read_on
from tunix_rt.v1 import artifact_pb2, job_service_pb2_grpc
from tunix_rt.v1 import job_service_pb2 as pb

Context = Any
Request = TypeVar("Request", pb.StreamMetricsRequest, pb.StreamLogsRequest)
_MESSAGES_AHEAD = 8


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """Serves the queue and what workers report. Topics of wake-ups are job names and `queue:{kind}`."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        wakeups: Wakeups,
        clock: Callable[[], datetime],
        ingested: Ingested,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._wakeups = wakeups
        self._clock = clock
        self._ingested = ingested

    async def EnqueueJob(self, request: pb.EnqueueJobRequest, _context: Context) -> pb.Job:
        """Queues a job."""
        async with self._database.transaction() as tx:
            job = await enqueue.enqueue(tx, request, now=self._clock())
        self._wakeups.announce(job.name, f"queue:{job.WhichOneof('spec')}")
        return job

    async def ClaimJob(self, request: pb.ClaimJobRequest, _context: Context) -> pb.ClaimJobResponse:
        """Claims a job; waits for one if asked to."""
        if bad := queue.claim_violations(request):
            raise InvalidArgument(bad)
        lease, seconds = queue.lease_of(request), wait_seconds(request)

        async def look() -> tuple[pb.ClaimJobResponse, float | None]:
            now = self._clock()
            async with self._database.transaction() as tx:
                found = await queue.claim(tx, request.kind, request.worker, lease=lease, now=now)
            self._wakeups.announce(*found.changed)
            if found.job:
                return pb.ClaimJobResponse(job=found.job), None
            expiry = (found.next_expiry - now).total_seconds() if found.next_expiry else LOOK_AGAIN_SECONDS
            return pb.ClaimJobResponse(), max(expiry, 0.01)

        return await self._wakeups.until(f"queue:{request.kind}", seconds, look)

    async def RenewLease(self, request: pb.RenewLeaseRequest, _context: Context) -> pb.RenewLeaseResponse:
        """Renews a lease."""
        async with self._database.transaction() as tx:
            return await queue.renew(tx, request, now=self._clock())

    async def RequestCancellation(self, request: pb.RequestCancellationRequest, _context: Context) -> pb.Job:
        """Asks a job to stop."""
        async with self._database.transaction() as tx:
            job = await queue.cancel(tx, request.name, now=self._clock())
        self._wakeups.announce(job.name)
        return job

    async def StreamMetrics(
        self, requests: AsyncIterator[pb.StreamMetricsRequest], _context: Context
    ) -> AsyncIterator[pb.StreamMetricsResponse]:
        """Stores points: what has come so far by one commit, with an answer for each message."""
        async with read_ahead(requests, _MESSAGES_AHEAD) as groups:
            writer: MetricWriter | None = None
            async for group in groups:
                if writer is None:
                    writer = MetricWriter(group[0].name, group[0].attempt)
                    async with self._database.transaction() as tx:
                        committed = await writer.open(tx)
                    yield pb.StreamMetricsResponse(committed=committed)
                checked = (_check_same(request, writer.run, writer.attempt) for request in group)
                before = committed
                async for committed in writer.write(self._database, checked):
                    self._ingested.points.inc(committed - before)
                    before = committed
                    self._wakeups.announce(writer.run)
                    yield pb.StreamMetricsResponse(committed=committed)

    async def StreamLogs(
        self, requests: AsyncIterator[pb.StreamLogsRequest], _context: Context
    ) -> AsyncIterator[pb.StreamLogsResponse]:
        """Stores log lines, a message at a time."""
        async with read_on(requests):
            writer: LogWriter | None = None
            async for request in requests:
                if writer is None:
                    writer = LogWriter(request.name, request.attempt)
                    async with self._database.transaction() as tx:
                        committed = await writer.open(tx)
                    yield pb.StreamLogsResponse(committed=committed)
                else:
                    _check_same(request, writer.job, writer.attempt)
                if request.lines:
                    before = committed
                    async with self._database.transaction() as tx:
                        committed = await writer.write(tx, request.offset, request.lines)
                    self._ingested.log_lines.inc(committed - before)
                    self._wakeups.announce(writer.job)
                    yield pb.StreamLogsResponse(committed=committed)

    async def RecordItemScores(
        self, request: pb.RecordItemScoresRequest, _context: Context
    ) -> pb.RecordItemScoresResponse:
        """Stores item scores."""
        async with self._database.transaction() as tx:
            recorded = await scores.record_items(tx, request)
        self._ingested.item_scores.inc(len(request.item_scores))
        return recorded

    async def RecordArtifact(
        self, request: pb.RecordArtifactRequest, _context: Context
    ) -> artifact_pb2.Artifact:
        """Records an artifact."""
        artifacts.check(request)
        async with self._database.transaction() as tx:
            return await artifacts.record(tx, request, self._blobs, now=self._clock())

    async def DeleteArtifact(
        self, request: pb.DeleteArtifactRequest, _context: Context
    ) -> pb.DeleteArtifactResponse:
        """Deletes a checkpoint: first its record, then the bytes that nothing else has."""
        async with self._database.transaction() as tx:
            digests = await artifacts.delete(tx, request)
        async with self._database.transaction() as tx:
            await artifacts.delete_unused(tx, self._blobs, digests)
        return pb.DeleteArtifactResponse()

    async def FinishJob(self, request: pb.FinishJobRequest, _context: Context) -> pb.Job:
        """Ends an attempt."""
        async with self._database.transaction() as tx:
            job = await finish.finish(tx, request, now=self._clock())
        self._wakeups.announce(job.name, "queue:run", "queue:evaluation")
        return job

    async def CountJobs(self, _request: pb.CountJobsRequest, _context: Context) -> pb.CountJobsResponse:
        """Counts the jobs."""
        async with self._database.transaction() as tx:
            return await queue.count(tx)


def _check_same(request: Request, name: str, attempt: int) -> Request:
    if request.name not in ("", name) or request.attempt not in (0, attempt):
        raise InvalidArgument.of("name", "name and attempt differ from the first message of the stream.")
    return request
