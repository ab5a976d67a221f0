"""Measures lists of runs: `python benchmarks/run_lists.py [--sizes 1000,100000] [--rounds 40]`.

Starts embedded PostgreSQL (fsync on) and one registry as a process of its own, loads runs with 20 metrics
each straight into the database, and lists them through loopback with the generated stubs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import psutil
import psycopg
from registry import Client, postgres, registry, tiny_model
from rich.console import Console
from rich.table import Table

from tunix_rt.v1 import job_service_pb2, registry_service_pb2, run_pb2

METRICS = 20
LABELLED = 100  # runs with a label of their own
LOSS = "metric-07"
PEER = "MLflow 3.17.2: top 50 by a metric of 1 k / 100 k runs 115 / 471 ms; not measured in this run."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000,100000", help="numbers of runs, rising")
    parser.add_argument("--rounds", type=int, default=40, help="calls of each kind")
    parser.add_argument("--folder", help="keep the database in this folder, and go on from what is there")
    parser.add_argument("--load-only", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    if arguments.folder:
        Path(arguments.folder).mkdir(parents=True, exist_ok=True)
        run(Path(arguments.folder), arguments)
        return
    with tempfile.TemporaryDirectory(prefix="tunix-rt-bench-", ignore_cleanup_errors=True) as folder:
        run(Path(folder), arguments)


def run(folder: Path, arguments: argparse.Namespace) -> None:
    folder.chmod(0o755)
    sizes = [int(size) for size in arguments.sizes.split(",")]
    with postgres(folder) as database, registry(database, folder) as address:
        asyncio.run(measure(address, database, sizes, arguments))


async def measure(address: str, database: str, sizes: list[int], arguments: argparse.Namespace) -> None:
    client = Client(address)
    loaded = (await client.registry.ListRuns(wanted(with_count=True))).total_count
    if not loaded:
        spec = run_pb2.RunSpec(model=await tiny_model(client), dataset=await client.dataset(), steps=100)
        job = job_service_pb2.Job(name="runs/template", run=spec)
        await client.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
        loaded = 1
    rows: dict[str, dict[int, str]] = {}
    for size in sizes:
        began = time.perf_counter()
        if size > loaded:
            await load(database, loaded, size)
            loaded = size
        Console().print(f"{size:,} runs loaded in {time.perf_counter() - began:.0f} s", highlight=False)
        if arguments.load_only:
            continue
        for label, request in requests().items():
            rows.setdefault(label, {})[size] = await timed(client, request, arguments.rounds)
    await client.channel.close()
    if not arguments.load_only:
        show(rows, sizes, arguments.rounds)


def requests() -> dict[str, registry_service_pb2.ListRunsRequest]:
    """What is measured; each answers with 50 runs, all their metrics and no spec, unless its name says so."""
    best = run_pb2.RunOrder(metric=LOSS, ascending=True)

    return {
        "top 50 by a metric": wanted(order=best),
        "top 50 by a metric, with specs": wanted(order=best, summary_only=False),
        "top 50 by a metric, 2 metrics and 2 parameters": wanted(
            order=best, metrics=[LOSS, "metric-01"], parameters=["optimizer.learning_rate", "steps"]
        ),
        "top 50 of 100 labelled runs": wanted(order=best, filter=run_pb2.RunFilter(labels={"team": "red"})),
        "top 50 of the better half by another metric": wanted(
            order=best, filter=run_pb2.RunFilter(metrics=[run_pb2.MetricRange(metric="metric-01", high=0.5)])
        ),
        "newest 50": wanted(),
        "newest 50, counted": wanted(with_count=True),
    }


def wanted(**fields: object) -> registry_service_pb2.ListRunsRequest:
    return registry_service_pb2.ListRunsRequest(**{"page_size": 50, "summary_only": True, **fields})


async def timed(client: Client, request: registry_service_pb2.ListRunsRequest, rounds: int) -> str:
    """The median and the 95th percentile of calls in turn, in milliseconds, after ten unmeasured ones."""
    taken = []
    for _ in range(10 + rounds):
        began = time.perf_counter()
        answer = await client.registry.ListRuns(request)
        taken.append((time.perf_counter() - began) * 1000)
        assert len(answer.runs) == 50
        assert len(answer.runs[0].metrics) in (2, METRICS)
    cut = statistics.quantiles(taken[10:], n=20)
    return f"{statistics.median(taken[10:]):.1f} / {cut[18]:.1f}"


async def load(database: str, loaded: int, size: int) -> None:
    """Adds runs up to a size, by SQL, with the indexes of the large tables made at the end."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        found = await connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes"
            " WHERE tablename = 'run_values' AND indexname LIKE '%by%'"
        )
        indexes = await found.fetchall()
        for name, _ in indexes:
            await connection.execute(psycopg.sql.SQL("DROP INDEX {}").format(psycopg.sql.Identifier(name)))
        for statement in LOAD:
            await connection.execute(statement, {"first": loaded, "last": size - 1, "labelled": LABELLED})
        for _, definition in indexes:
            await connection.execute(definition.encode())
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")


_NAME = "'runs/many-' || lpad(n::text, 8, '0')"
_EACH = "generate_series(%(first)s::bigint, %(last)s::bigint) n"
LOAD = (
    "INSERT INTO jobs (name, kind, state, max_attempts, spec, dataset, create_time)"
    f" SELECT {_NAME}, 'run', 3 + (n %% 2)::int, 5, t.spec, t.dataset, t.create_time + n * interval '1 ms'"
    f" FROM {_EACH}, jobs t WHERE t.name = 'runs/template' ORDER BY n",
    "INSERT INTO runs (name, number, create_time, dataset, model, search_text)"
    f" SELECT j.name, j.queue_order, j.create_time, j.dataset, t.model, j.name FROM {_EACH}"
    f" JOIN jobs j ON j.name = {_NAME}, runs t WHERE t.name = 'runs/template'",
    "INSERT INTO run_labels (run, key_digest, text_digest) SELECT r.number, substr(sha256('team'), 1, 16),"
    f" substr(sha256(CASE WHEN n <= %(labelled)s THEN 'red' ELSE 'blue' END::bytea), 1, 16)"
    f" FROM {_EACH} JOIN runs r ON r.name = {_NAME}",
    "INSERT INTO run_parameters SELECT r.number, p.path, p.number, p.text_digest"
    f" FROM {_EACH} JOIN runs r ON r.name = {_NAME}, run_parameters p, runs t"
    " WHERE t.name = 'runs/template' AND p.run = t.number"
    " AND p.path IN ('optimizer.learning_rate', 'steps', 'seed', 'tuning')",
    "INSERT INTO metric_summary"
    " SELECT name, 'metric-' || lpad(m::text, 2, '0'), v, 90, v / 2, 30, v * 2, 1, 90"
    f" FROM (SELECT {_NAME} AS name, m, random() AS v FROM {_EACH}, generate_series(1, {METRICS}) m) t",
    "INSERT INTO run_values SELECT r.number, s.metric, 1, s.last, s.min, s.max"
    f" FROM {_EACH} JOIN runs r ON r.name = {_NAME} JOIN metric_summary s ON s.run = r.name",
)


def show(rows: dict[str, dict[int, str]], sizes: list[int], rounds: int) -> None:
    table = Table(title=f"lists of runs, p50 / p95 of {rounds} calls, ms", title_justify="left")
    for column in ("list", *(f"{size:,} runs" for size in sizes)):
        table.add_column(column)
    for label, values in rows.items():
        table.add_row(label, *(values[size] for size in sizes))
    console = Console(width=140, highlight=False)
    console.print(table)
    console.print(PEER)
    for process in psutil.Process(os.getpid()).children():
        if "tunix_rt.registry" in " ".join(process.cmdline()):
            console.print(f"Resident memory of the registry: {process.memory_info().rss / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
