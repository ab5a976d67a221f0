"""RegistryService: each method is a transaction around one function."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.registry import (
    artifacts,
    curve_answers,
    dataset_changes,
    dataset_sealing,
    dataset_statistics,
    datasets,
    direct_transfers,
    garbage,
    leaderboard,
    logs,
    metrics,
    queue,
    run_changes,
    runs,
    scores,
    stored_evaluation,
    tasks,
    trace_appends,
    transfers,
    verification,
)
from tunix_rt.registry.database import Database
from tunix_rt.registry.lifecycle import State
from tunix_rt.registry.model_servicer import ModelMethods
from tunix_rt.registry.paging import wait_seconds
from tunix_rt.registry.telemetry import Ingested
from tunix_rt.registry.wakeups import LOOK_AGAIN_SECONDS, Wakeups
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.rpc.streams import read_ahead, read_on
from tunix_rt.v1 import (
    artifact_pb2,
    dataset_pb2,
    evaluation_pb2,
    registry_service_pb2_grpc,
    run_pb2,
    task_pb2,
)
from tunix_rt.v1 import registry_service_pb2 as pb

Context = Any


class RegistryServicer(ModelMethods, registry_service_pb2_grpc.RegistryServiceServicer):
    """Serves datasets, runs, metrics, evaluations, artifacts, model versions and tasks."""

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
        self._verifying = asyncio.Lock()

    async def CreateDataset(self, request: pb.CreateDatasetRequest, _context: Context) -> dataset_pb2.Dataset:
        """Creates an open dataset without traces."""
        async with self._database.transaction() as tx:
            return await datasets.create(tx, request, now=self._clock())

    async def AppendTraces(
        self, requests: AsyncIterator[pb.AppendTracesRequest], _context: Context
    ) -> AsyncIterator[pb.AppendTracesResponse]:
        """Appends traces, a message at a time."""
        async with read_on(requests):
            name = ""
            async for request in requests:
                if not name:
                    name = names.require(request.dataset, names.DATASET, "dataset")
                    async with self._database.transaction() as tx:
                        dataset = await datasets.get(tx, name)
                    committed = dataset.trace_count
                    yield pb.AppendTracesResponse(committed=committed)
                elif request.dataset not in ("", name):
                    raise InvalidArgument.of("dataset", "differs from the first message of the stream.")
                if request.traces:
                    before = committed
                    async with self._database.transaction() as tx:
                        committed = await trace_appends.append(
                            tx, name, request.offset, request.traces, size_bytes=request.ByteSize()
                        )
                    self._ingested.traces.inc(committed - before)
                    yield pb.AppendTracesResponse(committed=committed)
            if not name:
                raise InvalidArgument.of("dataset", "is required in the first message; the stream was empty.")

    async def SealDataset(self, request: pb.SealDatasetRequest, _context: Context) -> dataset_pb2.Dataset:
        """Makes a dataset immutable."""
        async with self._database.transaction() as tx:
            return await dataset_sealing.seal(tx, request, self._blobs, now=self._clock())

    async def GetDataset(self, request: pb.GetDatasetRequest, _context: Context) -> dataset_pb2.Dataset:
        """Returns a dataset."""
        async with self._database.transaction() as tx:
            return await datasets.get(tx, names.require(request.name, names.DATASET, "name"))

    async def ListDatasets(
        self, request: pb.ListDatasetsRequest, _context: Context
    ) -> pb.ListDatasetsResponse:
        """Lists datasets."""
        async with self._database.transaction() as tx:
            return await datasets.list_page(tx, request)

    async def ListTraces(self, request: pb.ListTracesRequest, _context: Context) -> pb.ListTracesResponse:
        """Lists the traces of a dataset."""
        async with self._database.transaction() as tx:
            return await datasets.list_traces(tx, request)

    async def UpdateDataset(self, request: pb.UpdateDatasetRequest, _context: Context) -> dataset_pb2.Dataset:
        """Changes what people may change of a dataset."""
        async with self._database.transaction() as tx:
            return await dataset_changes.update(tx, request)

    async def DeleteDataset(self, request: pb.DeleteDatasetRequest, _context: Context) -> dataset_pb2.Dataset:
        """Marks a dataset that nothing uses as deleted."""
        async with self._database.transaction() as tx:
            return await dataset_changes.delete(tx, request.name, now=self._clock())

    async def UndeleteDataset(
        self, request: pb.UndeleteDatasetRequest, _context: Context
    ) -> dataset_pb2.Dataset:
        """Restores a deleted dataset."""
        async with self._database.transaction() as tx:
            return await dataset_changes.undelete(tx, request.name)

    async def GetDatasetStatistics(
        self, request: pb.GetDatasetStatisticsRequest, _context: Context
    ) -> dataset_pb2.DatasetStatistics:
        """Returns what a sealed dataset holds."""
        return await dataset_statistics.get(self._database, self._blobs, request.name)

    async def GetRun(self, request: pb.GetRunRequest, _context: Context) -> run_pb2.Run:
        """Returns a run."""
        async with self._database.transaction() as tx:
            return await runs.get(tx, request.name)

    async def ListRuns(self, request: pb.ListRunsRequest, _context: Context) -> pb.ListRunsResponse:
        """Lists runs."""
        async with self._database.transaction() as tx:
            return await runs.list_page(tx, request)

    async def UpdateRun(self, request: pb.UpdateRunRequest, _context: Context) -> run_pb2.Run:
        """Changes what people may change of a run."""
        async with self._database.transaction() as tx:
            return await run_changes.update(tx, request)

    async def ArchiveRuns(self, request: pb.ArchiveRunsRequest, _context: Context) -> pb.ArchiveRunsResponse:
        """Takes runs out of the usual lists."""
        async with self._database.transaction() as tx:
            archived = await run_changes.archive(tx, request.names, now=self._clock())
        return pb.ArchiveRunsResponse(runs=archived)

    async def UnarchiveRuns(
        self, request: pb.UnarchiveRunsRequest, _context: Context
    ) -> pb.UnarchiveRunsResponse:
        """Puts archived runs back into the usual lists."""
        async with self._database.transaction() as tx:
            return pb.UnarchiveRunsResponse(runs=await run_changes.unarchive(tx, request.names))

    async def DeleteRuns(self, request: pb.DeleteRunsRequest, _context: Context) -> pb.DeleteRunsResponse:
        """Marks runs that have ended as deleted."""
        async with self._database.transaction() as tx:
            deleted = await run_changes.delete(tx, request.names, now=self._clock())
        return pb.DeleteRunsResponse(runs=deleted)

    async def UndeleteRuns(
        self, request: pb.UndeleteRunsRequest, _context: Context
    ) -> pb.UndeleteRunsResponse:
        """Restores deleted runs."""
        async with self._database.transaction() as tx:
            return pb.UndeleteRunsResponse(runs=await run_changes.undelete(tx, request.names))

    async def CollectGarbage(
        self, request: pb.CollectGarbageRequest, _context: Context
    ) -> pb.CollectGarbageResponse:
        """Removes what deleted runs leave, or says what that is."""
        return await garbage.collect(self._database, self._blobs, request, now=self._clock())

    async def ListMetrics(self, request: pb.ListMetricsRequest, _context: Context) -> pb.ListMetricsResponse:
        """Lists the points of a run; waits for some if asked to."""
        names.require(request.run, names.RUN, "run")

        async def look() -> tuple[pb.ListMetricsResponse, float | None]:
            async with self._database.transaction() as tx:
                found = await metrics.list_points(tx, request)
            return found, _look_again(bool(found.points), found.state)

        return await self._wakeups.until(request.run, wait_seconds(request), look)

    async def GetCurves(self, request: pb.GetCurvesRequest, _context: Context) -> pb.GetCurvesResponse:
        """Returns curves within a budget of points."""
        async with self._database.transaction() as tx:
            return await curve_answers.get_curves(tx, request)

    async def ListLogs(self, request: pb.ListLogsRequest, _context: Context) -> pb.ListLogsResponse:
        """Lists the log lines of a job; waits for some if asked to."""
        queue.job_name(request.name)

        async def look() -> tuple[pb.ListLogsResponse, float | None]:
            async with self._database.transaction() as tx:
                found = await logs.list_lines(tx, request)
            return found, _look_again(bool(found.lines), found.state)

        return await self._wakeups.until(request.name, wait_seconds(request), look)

    async def GetEvaluation(
        self, request: pb.GetEvaluationRequest, _context: Context
    ) -> evaluation_pb2.Evaluation:
        """Returns an evaluation."""
        async with self._database.transaction() as tx:
            return await scores.get(tx, request.name)

    async def ListEvaluations(
        self, request: pb.ListEvaluationsRequest, _context: Context
    ) -> pb.ListEvaluationsResponse:
        """Lists evaluations."""
        async with self._database.transaction() as tx:
            return await scores.list_page(tx, request)

    async def ListItemScores(
        self, request: pb.ListItemScoresRequest, _context: Context
    ) -> pb.ListItemScoresResponse:
        """Lists the item scores of an evaluation."""
        async with self._database.transaction() as tx:
            return await scores.list_items(tx, request)

    async def VerifyEvaluation(
        self, request: pb.VerifyEvaluationRequest, _context: Context
    ) -> pb.VerifyEvaluationResponse:
        """Scores the stored items again; one evaluation at a time, since it takes a core."""
        async with self._verifying:
            async with self._database.transaction() as tx:
                stored = await stored_evaluation.read(tx, request.name)
            return await asyncio.to_thread(verification.verify, stored)

    async def GetLeaderboard(self, request: pb.GetLeaderboardRequest, _context: Context) -> pb.Leaderboard:
        """Ranks the evaluations on a dataset."""
        async with self._database.transaction() as tx:
            dataset, boards = await leaderboard.read(tx, request)
        return await asyncio.to_thread(leaderboard.build, dataset, boards)

    async def UploadBlob(
        self, requests: AsyncIterator[pb.UploadBlobRequest], _context: Context
    ) -> AsyncIterator[pb.UploadBlobResponse]:
        """Stores the bytes of one file."""
        async with read_ahead(requests, transfers.AHEAD) as groups:
            async for committed in transfers.upload(self._blobs, groups):
                yield pb.UploadBlobResponse(committed=committed)

    async def ReadBlob(
        self, request: pb.ReadBlobRequest, _context: Context
    ) -> AsyncIterator[pb.ReadBlobResponse]:
        """Streams the bytes of a stored file."""
        async for data in transfers.read(self._blobs, request.sha256, request.offset):
            yield pb.ReadBlobResponse(data=data)

    async def StartDirectUpload(
        self, request: pb.StartDirectUploadRequest, _context: Context
    ) -> pb.DirectUpload:
        """Begins to store the bytes of one file in parts that go to the object store."""
        return await direct_transfers.start(self._blobs, request)

    async def CompleteDirectUpload(
        self, request: pb.CompleteDirectUploadRequest, _context: Context
    ) -> pb.CompleteDirectUploadResponse:
        """Checks the bytes of a direct upload and makes them readable."""
        return await direct_transfers.complete(self._blobs, request)

    async def AbortDirectUpload(
        self, request: pb.AbortDirectUploadRequest, _context: Context
    ) -> pb.AbortDirectUploadResponse:
        """Drops what has come of a direct upload."""
        return await direct_transfers.abort(self._blobs, request)

    async def SignDownload(
        self, request: pb.SignDownloadRequest, _context: Context
    ) -> pb.SignDownloadResponse:
        """Signs a URL from which a stored file can be read."""
        return await direct_transfers.sign(self._blobs, request)

    async def GetArtifact(self, request: pb.GetArtifactRequest, _context: Context) -> artifact_pb2.Artifact:
        """Returns an artifact."""
        async with self._database.transaction() as tx:
            return await artifacts.get(tx, request.name)

    async def ListArtifacts(
        self, request: pb.ListArtifactsRequest, _context: Context
    ) -> pb.ListArtifactsResponse:
        """Lists artifacts."""
        async with self._database.transaction() as tx:
            return await artifacts.list_page(tx, request)

    async def CreateTaskVersion(
        self, request: pb.CreateTaskVersionRequest, _context: Context
    ) -> task_pb2.TaskVersion:
        """Stores an evaluation spec under a name."""
        async with self._database.transaction() as tx:
            return await tasks.create(tx, request, now=self._clock())

    async def GetTaskVersion(
        self, request: pb.GetTaskVersionRequest, _context: Context
    ) -> task_pb2.TaskVersion:
        """Returns a task version."""
        async with self._database.transaction() as tx:
            return await tasks.get(tx, request.name)

    async def ListTaskVersions(
        self, request: pb.ListTaskVersionsRequest, _context: Context
    ) -> pb.ListTaskVersionsResponse:
        """Lists task versions."""
        async with self._database.transaction() as tx:
            return await tasks.list_page(tx, request)


def _look_again(found: bool, state: int) -> float | None:
    """None if there is something to answer, or nothing to wait for."""
    return None if found or State(state).terminal else LOOK_AGAIN_SECONDS
