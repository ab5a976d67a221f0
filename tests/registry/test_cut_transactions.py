"""A call whose connection to the database is cut at any statement is stored whole or not at all, and once."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import status_pb2
from psycopg.sql import SQL, Identifier

from tunix_rt.rpc.status import reason_of, status_of
from tunix_rt.v1 import artifact_pb2, dataset_pb2, evaluation_pb2, job_service_pb2, run_pb2, task_pb2
from tunix_rt.v1 import registry_service_pb2 as pb

SOCKET = ".s.PGSQL.5432"
_NAME = re.compile(r"(runs|evaluations|datasets|artifacts|models|tasks)/[\w/-]+|worker-[\w-]+")
Call = Callable[[Any], Awaitable[Any]]


class Wire:
    """The way to PostgreSQL; it breaks when a statement has run, before its answer is back."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut_after(0)

    def cut_after(self, number: int) -> None:
        """Breaks at the end of the statement with a number, from 1; 0 never breaks."""
        self._left, self.was_cut = number, False

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries a connection of the registry."""
        server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        muted = asyncio.Event()
        ways = [self._forth(reader, server_writer, muted), self._back(server_reader, writer, muted)]
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for end in (writer, server_writer):
                end.transport.abort()

    async def _forth(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, muted: asyncio.Event
    ) -> None:
        size = await reader.readexactly(4)
        server.write(size + await reader.readexactly(int.from_bytes(size) - 4))
        while True:
            try:
                kind, message = await _message(reader)
            except asyncio.IncompleteReadError:
                return
            if kind in b"QS" and self._is_now():  # the end of a statement: a simple query, or a Sync
                muted.set()
            server.write(message)

    async def _back(
        self, server: asyncio.StreamReader, writer: asyncio.StreamWriter, muted: asyncio.Event
    ) -> None:
        while True:
            try:
                kind, message = await _message(server)
            except asyncio.IncompleteReadError:
                return
            if not muted.is_set():
                writer.write(message)
            elif kind == b"Z":  # the server is ready for the next statement
                return

    def _is_now(self) -> bool:
        self._left -= 1
        self.was_cut = self.was_cut or self._left == 0
        return self._left == 0


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


class Rows:
    """What a database holds: the number and a digest of the rows of each table."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        self._sql = SQL(" UNION ALL ").join(
            SQL("SELECT {}::text, count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t").format(
                name, Identifier(name)
            )
            for (name,) in tables
        )

    def now(self) -> dict[str, tuple[int, str]]:
        return {name: (count, digest) for name, count, digest in self._connection.execute(self._sql)}


def growth(before: dict[str, tuple[int, str]], after: dict[str, tuple[int, str]]) -> dict[str, int]:
    return {name: after[name][0] - before[name][0] for name in after if after[name][0] != before[name][0]}


@pytest.fixture
async def cut(open_registry, cleanup, clock, tmp_path_factory):
    """A registry on a wire that can be cut, another one on the same database, the wire and the rows."""
    other = await open_registry(clock=clock)
    address = urlsplit(other.database)
    (folder,) = parse_qs(address.query)["host"]
    wire = Wire(Path(folder) / SOCKET)
    near = tmp_path_factory.mktemp("wire")
    server = await asyncio.start_unix_server(wire.connect, near / SOCKET)
    cleanup.callback(server.close)
    wired = await open_registry(database=other.database.replace(folder, str(near)), clock=clock)
    connection = cleanup.enter_context(psycopg.connect(other.database, autocommit=True))
    return wired, other, wire, Rows(connection)


ERROR = status_pb2.Status(code=13, message="the child crashed")
SPLITS = [dataset_pb2.Split(name="test", fraction=1)]


class Prepared:
    """What the calls work on, made over the whole connection and anew for each cut."""

    def __init__(self, registry: Any) -> None:
        self.registry = registry
        self.spec: dict[str, str] = {}

    async def run(self, **fields: Any) -> job_service_pb2.Job:
        """A run that a worker has claimed."""
        if not self.spec:
            dataset = await self.registry.sealed_dataset()
            self.spec = {"dataset": dataset.name, "model": await self.registry.model()}
        return await self.registry.running(**self.spec, **fields)

    async def ended_run(self) -> job_service_pb2.Job:
        job = await self.run()
        request = job_service_pb2.FinishJobRequest(name=job.name, attempt=1, error=ERROR)
        return await self.registry.jobs.FinishJob(request)

    async def checkpoint(self, name: str) -> str:
        request = job_service_pb2.RecordArtifactRequest(name=name, attempt=1)
        request.artifact.kind = "checkpoint"
        request.artifact.files.append(await self.registry.upload(name.encode()))
        return (await self.registry.jobs.RecordArtifact(request)).name

    async def open_dataset(self) -> str:
        request = pb.CreateDatasetRequest(dataset=dataset_pb2.Dataset(splits=SPLITS))
        return (await self.registry.registry.CreateDataset(request)).name


async def create_dataset(prepared: Prepared) -> Call:
    request = pb.CreateDatasetRequest(request_id=str(uuid.uuid4()))
    return lambda registry: registry.registry.CreateDataset(request)


async def append_traces(prepared: Prepared) -> Call:
    name = await prepared.open_dataset()
    traces = prepared.registry.make_traces(6)

    def message(offset: int, count: int) -> pb.AppendTracesRequest:
        return pb.AppendTracesRequest(dataset=name, offset=offset, traces=traces[offset : offset + count])

    return Stream(lambda registry: registry.registry.AppendTraces(), message)


async def seal_dataset(prepared: Prepared) -> Call:
    name = await prepared.open_dataset()
    await prepared.registry.append(name, prepared.registry.make_traces(3))
    return lambda registry: registry.registry.SealDataset(pb.SealDatasetRequest(name=name))


async def create_model_version(prepared: Prepared) -> Call:
    request = pb.CreateModelVersionRequest(parent="models/m", request_id=str(uuid.uuid4()))
    request.model_version.files.extend(await prepared.registry.files(prepared.registry.model_files()))
    return lambda registry: registry.registry.CreateModelVersion(request)


async def create_task_version(prepared: Prepared) -> Call:
    dataset = (await prepared.run()).run.dataset
    version = task_pb2.TaskVersion(spec=evaluation_pb2.EvaluationSpec(dataset=dataset))
    request = pb.CreateTaskVersionRequest(
        parent="tasks/t", task_version=version, request_id=str(uuid.uuid4())
    )
    return lambda registry: registry.registry.CreateTaskVersion(request)


async def update_run(prepared: Prepared) -> Call:
    run = run_pb2.Run(name=(await prepared.run()).name, description="d", labels={"a": "b"}, tags=["t"])
    request = pb.UpdateRunRequest(run=run, update_mask=FieldMask(paths=["description", "labels.a", "tags"]))
    return lambda registry: registry.registry.UpdateRun(request)


async def archive_runs(prepared: Prepared) -> Call:
    request = pb.ArchiveRunsRequest(names=[(await prepared.run()).name])
    return lambda registry: registry.registry.ArchiveRuns(request)


async def unarchive_runs(prepared: Prepared) -> Call:
    name = (await prepared.run()).name
    await prepared.registry.registry.ArchiveRuns(pb.ArchiveRunsRequest(names=[name]))
    return lambda registry: registry.registry.UnarchiveRuns(pb.UnarchiveRunsRequest(names=[name]))


async def delete_runs(prepared: Prepared) -> Call:
    request = pb.DeleteRunsRequest(names=[(await prepared.ended_run()).name])
    return lambda registry: registry.registry.DeleteRuns(request)


async def undelete_runs(prepared: Prepared) -> Call:
    name = (await prepared.ended_run()).name
    await prepared.registry.registry.DeleteRuns(pb.DeleteRunsRequest(names=[name]))
    return lambda registry: registry.registry.UndeleteRuns(pb.UndeleteRunsRequest(names=[name]))


async def enqueue_job(prepared: Prepared) -> Call:
    await prepared.run()
    job = job_service_pb2.Job(name="runs/", run=run_pb2.RunSpec(**prepared.spec), labels={"a": "b"})
    request = job_service_pb2.EnqueueJobRequest(job=job, request_id=str(uuid.uuid4()))
    return lambda registry: registry.jobs.EnqueueJob(request)


async def renew_lease(prepared: Prepared) -> Call:
    name = (await prepared.run()).name
    request = job_service_pb2.RenewLeaseRequest(name=name, attempt=1, progress=3)
    request.facts.update({"rows": 7})
    return lambda registry: registry.jobs.RenewLease(request)


async def request_cancellation(prepared: Prepared) -> Call:
    request = job_service_pb2.RequestCancellationRequest(name=(await prepared.run()).name)
    return lambda registry: registry.jobs.RequestCancellation(request)


async def stream_metrics(prepared: Prepared) -> Call:
    name = (await prepared.run()).name
    points = [run_pb2.MetricPoint(metric="m", step=step, value=step) for step in range(1, 7)]

    def message(offset: int, count: int) -> job_service_pb2.StreamMetricsRequest:
        return job_service_pb2.StreamMetricsRequest(
            name=name, attempt=1, offset=offset, points=points[offset : offset + count]
        )

    return Stream(lambda registry: registry.jobs.StreamMetrics(), message)


async def stream_logs(prepared: Prepared) -> Call:
    name = (await prepared.run()).name

    def message(offset: int, count: int) -> job_service_pb2.StreamLogsRequest:
        lines = [str(number) for number in range(offset, offset + count)]
        return job_service_pb2.StreamLogsRequest(name=name, attempt=1, offset=offset, lines=lines)

    return Stream(lambda registry: registry.jobs.StreamLogs(), message)


async def record_item_scores(prepared: Prepared) -> Call:
    registry = prepared.registry
    dataset = (await prepared.run()).run.dataset
    spec = evaluation_pb2.EvaluationSpec(subject=prepared.spec["model"], dataset=dataset)
    job = job_service_pb2.Job(name="evaluations/", evaluation=spec)
    await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
    name = (await registry.claim("evaluation", f"worker-{uuid.uuid4()}")).name
    items = [
        evaluation_pb2.ItemScore(trace_id=f"t{i}", position=i, outcome=evaluation_pb2.ItemScore.CORRECT)
        for i in range(3)
    ]
    request = job_service_pb2.RecordItemScoresRequest(name=name, attempt=1, item_scores=items)
    return lambda registry: registry.jobs.RecordItemScores(request)


async def record_artifact(prepared: Prepared) -> Call:
    name = (await prepared.run()).name
    files = await prepared.registry.files({"state.json": b"{}"})
    artifact = artifact_pb2.Artifact(kind="checkpoint", step=5, files=files)
    request = job_service_pb2.RecordArtifactRequest(name=name, attempt=1, artifact=artifact)
    return lambda registry: registry.jobs.RecordArtifact(request)


async def delete_artifact(prepared: Prepared) -> Call:
    name = (await prepared.run()).name
    artifact = await prepared.checkpoint(name)
    request = job_service_pb2.DeleteArtifactRequest(name=name, attempt=1, artifact=artifact)
    return lambda registry: registry.jobs.DeleteArtifact(request)


async def finish_job(prepared: Prepared) -> Call:
    after = [evaluation_pb2.EvaluationSpec(dataset=(await prepared.run()).run.dataset)] * 2
    job = await prepared.run(evaluate_after=after)
    request = job_service_pb2.RecordArtifactRequest(name=job.name, attempt=1)
    request.artifact.kind = "model"
    request.artifact.files.extend(await prepared.registry.files({"model.safetensors": b"weights"}))
    model = (await prepared.registry.jobs.RecordArtifact(request)).name
    outcome = job_service_pb2.RunOutcome(model_artifact=model)
    finish = job_service_pb2.FinishJobRequest(name=job.name, attempt=1, run=outcome)
    return lambda registry: registry.jobs.FinishJob(finish)


async def claim_job(prepared: Prepared) -> Call:
    """By a worker that claims again if it got no answer: it has the job, at one attempt or the next."""
    await prepared.run()
    queued = (await prepared.registry.enqueue(**prepared.spec)).name
    worker = f"worker-{uuid.uuid4()}"

    async def claim(registry: Any) -> str:
        job = await registry.claim(worker=worker)
        assert (job.name, job.status.attempt in (1, 2)) == (queued, True)
        return job.name

    return claim


async def collect_garbage(prepared: Prepared) -> Call:
    """The second call tells only what the first has left, so its answer is of no interest."""
    name = (await prepared.run()).name
    await prepared.checkpoint(name)
    finish = job_service_pb2.FinishJobRequest(name=name, attempt=1, error=ERROR)
    await prepared.registry.jobs.FinishJob(finish)
    await prepared.registry.registry.DeleteRuns(pb.DeleteRunsRequest(names=[name]))
    request = pb.CollectGarbageRequest(remove=True, min_age=Duration(seconds=0))

    async def collect(registry: Any) -> None:
        await registry.registry.CollectGarbage(request)

    return collect


class Stream:
    """Six in three messages, all sent again each time; what was acknowledged is stored."""

    def __init__(self, method: Callable[[Any], Any], message: Callable[[int, int], Any]) -> None:
        self._method, self._messages = method, [message(offset, 2) for offset in (0, 2, 4)]
        self._acknowledged = 0

    async def __call__(self, registry: Any) -> int:
        stream = self._method(registry)
        for message in self._messages:
            await stream.write(message)
        await stream.done_writing()
        first = True
        async for answer in stream:
            assert not first or answer.committed >= self._acknowledged
            self._acknowledged, first = max(self._acknowledged, answer.committed), False
        return self._acknowledged


ONE_TRANSACTION = (
    create_dataset,
    seal_dataset,
    create_model_version,
    create_task_version,
    update_run,
    archive_runs,
    unarchive_runs,
    delete_runs,
    undelete_runs,
    enqueue_job,
    renew_lease,
    request_cancellation,
    record_item_scores,
    record_artifact,
    finish_job,
)
OTHERS = (append_traces, stream_metrics, stream_logs, delete_artifact, claim_job, collect_garbage)


async def result_of(call: Awaitable[Any]) -> str | None:
    """The answer without the names in it, or None where the database was away."""
    try:
        return _NAME.sub("NAME", str(await call))
    except grpc.aio.AioRpcError as error:
        assert (error.code(), reason_of(status_of(error))) == (
            grpc.StatusCode.UNAVAILABLE,
            "DATABASE_UNAVAILABLE",
        )
        return None


@pytest.mark.parametrize("prepare", (*ONE_TRANSACTION, *OTHERS), ids=lambda each: each.__name__)
async def test_a_call_that_is_cut_anywhere_is_stored_once_when_it_is_sent_again(cut, prepare):
    wired, other, wire, rows = cut
    prepared = Prepared(other)
    call = await prepare(prepared)
    before = rows.now()
    answer = await result_of(call(wired))
    grown = growth(before, rows.now())

    async def is_reached(statement: int) -> bool:
        call = await prepare(prepared)
        before = rows.now()
        wire.cut_after(statement)
        first = await result_of(call(wired))
        was_cut = wire.was_cut
        wire.cut_after(0)
        between = rows.now()
        # Sent again to a server that knows nothing of the first call, or to the same one.
        assert await result_of(call(other if statement % 2 else wired)) == answer
        after = rows.now()
        assert growth(before, after) == grown
        if first is not None:
            assert first == answer
        if prepare in ONE_TRANSACTION:
            assert between in (before, after), f"a part was stored: {growth(before, between)}"
        return was_cut

    statement = 1
    while await is_reached(statement):
        statement += 4 if prepare is collect_garbage else 1  # its many deletions are alike
    assert statement > 4  # at least BEGIN, a look, a change and COMMIT
