"""A real PostgreSQL for the session, and real registries on it over loopback."""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from google.rpc import status_pb2

from tunix_rt.registry.server import RegistryServer, start, utc_now
from tunix_rt.registry.settings import Settings
from tunix_rt.rpc.channel import channel_options
from tunix_rt.rpc.status import reason_of, status_of, violations_of
from tunix_rt.v1 import (
    artifact_pb2,
    dataset_pb2,
    evaluation_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    registry_service_pb2,
    registry_service_pb2_grpc,
    run_pb2,
)


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


SPLITS = [
    dataset_pb2.Split(name="train", fraction=0.6),
    dataset_pb2.Split(name="test", fraction=0.4),
]


def make_traces(size: int, first: int = 0) -> list[dataset_pb2.Trace]:
    return [
        dataset_pb2.Trace(
            id=f"t{i}",
            prompt=f"What is {i} + {i}?",
            steps=[dataset_pb2.Step(type="compute", content=f"{i} + {i} = {2 * i}")],
            final_answer=str(2 * i),
        )
        for i in range(first, first + size)
    ]


def model_files(note: str = "") -> dict[str, bytes]:
    """The files of the smallest model that passes the layout check; the note makes another digest."""
    import json

    import numpy as np
    from safetensors.numpy import save

    from tunix_rt.lm.config import ModelConfig
    from tunix_rt.lm.layout import tensor_shapes

    config = ModelConfig(
        vocab_size=8,
        hidden_size=4,
        intermediate_size=4,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=2,
        max_positions=16,
        eos_ids=(1,),
    )
    tensors = {name: np.zeros(shape, np.float32) for name, shape in tensor_shapes(config).items()}
    return {
        "config.json": json.dumps(config.to_hf()).encode(),
        "tokenizer.json": json.dumps({"note": note}).encode(),
        "model.safetensors": save(tensors),
    }


@dataclass(frozen=True)
class Failure:
    """What a failed call told."""

    code: grpc.StatusCode
    reason: str
    fields: dict[str, str]
    message: str


async def failure_of(call: Awaitable[Any]) -> Failure:
    """How a call fails; an error of the test if it does not."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = status_of(caught.value)
    return Failure(
        caught.value.code(), reason_of(status), dict(violations_of(status)), caught.value.details() or ""
    )


@dataclass
class Registry:
    """A registry that serves, with stubs and the steps that many tests take."""

    server: RegistryServer
    registry: registry_service_pb2_grpc.RegistryServiceAsyncStub
    jobs: job_service_pb2_grpc.JobServiceAsyncStub
    database: str
    blobs: Path
    counter: Iterator[int] = field(default_factory=itertools.count)

    failure_of = staticmethod(failure_of)
    make_traces = staticmethod(make_traces)
    model_files = staticmethod(model_files)

    async def append(self, dataset: str, traces: Iterable[dataset_pb2.Trace], offset: int = 0) -> list[int]:
        async def messages() -> AsyncIterator[Any]:
            yield registry_service_pb2.AppendTracesRequest(
                dataset=dataset, offset=offset, traces=list(traces)
            )

        return [response.committed async for response in self.registry.AppendTraces(messages())]

    async def sealed_dataset(self, size: int = 30) -> dataset_pb2.Dataset:
        made = await self.registry.CreateDataset(
            registry_service_pb2.CreateDatasetRequest(dataset=dataset_pb2.Dataset(splits=SPLITS))
        )
        await self.append(made.name, make_traces(size))
        return await self.registry.SealDataset(registry_service_pb2.SealDatasetRequest(name=made.name))

    async def upload(self, data: bytes) -> artifact_pb2.File:
        digest = hashlib.sha256(data).hexdigest()

        async def messages() -> AsyncIterator[Any]:
            yield registry_service_pb2.UploadBlobRequest(sha256=digest, size_bytes=len(data), data=data)

        answers = [r.committed async for r in self.registry.UploadBlob(messages())]
        assert answers[-1] == len(data)
        return artifact_pb2.File(path="file", sha256=digest, size_bytes=len(data))

    async def files(self, contents: dict[str, bytes]) -> list[artifact_pb2.File]:
        made = []
        for path, data in contents.items():
            file = await self.upload(data)
            file.path = path
            made.append(file)
        return made

    async def model(self, **fields: Any) -> str:
        request = registry_service_pb2.CreateModelVersionRequest(parent="models/tiny")
        request.model_version.files.extend(await self.files(model_files()))
        for name, value in fields.items():
            setattr(request.model_version, name, value)
        return (await self.registry.CreateModelVersion(request)).name

    async def enqueue(self, **spec: Any) -> job_service_pb2.Job:
        """A queued run on a dataset and a model that are made unless given."""
        if "dataset" not in spec:
            spec["dataset"] = (await self.sealed_dataset()).name
        if "model" not in spec:
            spec["model"] = await self.model()
        job = job_service_pb2.Job(name="runs/", run=run_pb2.RunSpec(**spec))
        return await self.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))

    async def claim(self, kind: str = "run", worker: str = "w", **fields: Any) -> job_service_pb2.Job:
        request = job_service_pb2.ClaimJobRequest(kind=kind, worker=worker, **fields)
        return (await self.jobs.ClaimJob(request)).job

    async def running(self, **spec: Any) -> job_service_pb2.Job:
        """A run that a fresh worker has claimed."""
        await self.enqueue(**spec)
        return await self.claim(worker=f"worker-{uuid.uuid4()}")

    async def send_points(
        self,
        job: job_service_pb2.Job,
        points: Sequence[run_pb2.MetricPoint],
        offset: int = 0,
        *,
        size: int = 1000,
    ) -> list[int]:
        """Streams points in messages of a size, and returns the acknowledgements."""

        async def messages() -> AsyncIterator[Any]:
            for first in range(0, len(points), size):
                yield job_service_pb2.StreamMetricsRequest(
                    name=job.name,
                    attempt=job.status.attempt,
                    offset=offset + first,
                    points=points[first : first + size],
                )

        return [response.committed async for response in self.jobs.StreamMetrics(messages())]

    async def next_attempt(self, job: job_service_pb2.Job) -> job_service_pb2.Job:
        """The next attempt of a run, after this one has failed."""
        error = status_pb2.Status(code=13, message="lost")
        await self.jobs.FinishJob(
            job_service_pb2.FinishJobRequest(
                name=job.name, attempt=job.status.attempt, error=error, retryable=True
            )
        )
        return await self.claim(worker=f"worker-{uuid.uuid4()}")

    async def succeed_run(self, job: job_service_pb2.Job) -> job_service_pb2.Job:
        recorded = await self.jobs.RecordArtifact(
            job_service_pb2.RecordArtifactRequest(
                name=job.name,
                attempt=job.status.attempt,
                artifact=artifact_pb2.Artifact(kind="model", files=await self.files(model_files(job.name))),
            )
        )
        return await self.jobs.FinishJob(
            job_service_pb2.FinishJobRequest(
                name=job.name,
                attempt=job.status.attempt,
                run=job_service_pb2.RunOutcome(model_artifact=recorded.name),
            )
        )

    async def succeed_evaluation(self, name: str, correct: int, total: int) -> evaluation_pb2.Evaluation:
        """Claims the oldest evaluation, which must be this one, and ends it with a score."""
        from tunix_rt.stats.intervals import wilson

        job = await self.claim("evaluation", f"worker-{uuid.uuid4()}")
        assert job.name == name
        items = [
            evaluation_pb2.ItemScore(
                trace_id=f"t{i}",
                position=i,
                outcome=evaluation_pb2.ItemScore.CORRECT if i < correct else evaluation_pb2.ItemScore.WRONG,
                score=float(i < correct),
            )
            for i in range(total)
        ]
        await self.jobs.RecordItemScores(
            job_service_pb2.RecordItemScoresRequest(name=name, attempt=job.status.attempt, item_scores=items)
        )
        interval = wilson(correct, total)
        score = evaluation_pb2.Score(
            mean=correct / total, low=interval.low, high=interval.high, confidence=0.95, count=total
        )
        await self.jobs.FinishJob(
            job_service_pb2.FinishJobRequest(
                name=name,
                attempt=job.status.attempt,
                evaluation=evaluation_pb2.EvaluationResult(score=score, extracted_rate=1),
            )
        )
        return await self.registry.GetEvaluation(registry_service_pb2.GetEvaluationRequest(name=name))


@pytest.fixture(scope="session")
def free_databases() -> list[str]:
    """Databases that earlier tests have emptied again."""
    return []


def empty(database: str) -> None:
    """Removes all rows, but not the record of the migrations."""
    with psycopg.connect(database, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migrations'"
        ).fetchall()
        names = psycopg.sql.SQL(", ").join(psycopg.sql.Identifier(name) for (name,) in tables)
        connection.execute(psycopg.sql.SQL("TRUNCATE {} RESTART IDENTITY").format(names))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def cleanup() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def open_registry(
    cleanup: AsyncExitStack,
    make_database: Callable[[], str],
    free_databases: list[str],
    tmp_path: Path,
) -> Callable[..., Awaitable[Registry]]:
    """Starts a registry on port 0; on a database of its own unless one is given."""

    def recycle(database: str) -> None:
        empty(database)
        free_databases.append(database)

    async def open_one(database: str = "", clock: Callable[[], datetime] = utc_now) -> Registry:
        url = database or (free_databases.pop() if free_databases else make_database())
        if not database:
            cleanup.callback(recycle, url)  # after the servers have stopped
        folder = tmp_path / "blobs"
        settings = Settings(database=url, blobs=f"file://{folder}", listen="127.0.0.1:0")
        server = await start(settings, clock=clock)
        cleanup.push_async_callback(server.stop, 0)
        options = [(key, value) for key, value in channel_options() if key != "grpc.service_config"]
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options)
        cleanup.push_async_callback(channel.close)
        return Registry(
            server,
            registry_service_pb2_grpc.RegistryServiceStub(channel),  # type: ignore[arg-type]
            job_service_pb2_grpc.JobServiceStub(channel),  # type: ignore[arg-type]
            url,
            folder,
        )

    return open_one


@pytest.fixture
async def registry(open_registry: Callable[..., Awaitable[Registry]]) -> Registry:
    """A registry on a database of the test's own."""
    return await open_registry()
