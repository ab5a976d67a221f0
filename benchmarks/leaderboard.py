"""Measures leaderboards: `python benchmarks/leaderboard.py [--entries 100] [--items 1000] [--rounds 20]`.

Starts embedded PostgreSQL (fsync on) and one registry as a process of its own, loads evaluations with their
items straight into the database, and asks through loopback with the generated stubs. Item scores are right or
wrong, and once the means of four samples an item; each subject is right on a share of the items of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
from registry import Client, postgres, registry
from rich.console import Console
from rich.table import Table

from tunix_rt.jobs.evaluation_spec import complete_evaluation
from tunix_rt.scoring.shares import share_score
from tunix_rt.v1 import dataset_pb2, evaluation_pb2, job_service_pb2, registry_service_pb2

SAMPLES = 4
SECTIONS = 5
SUCCEEDED = 3
OUTPUT = "A sentence of reasoning about the numbers at hand. " * 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tunix-rt-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        with postgres(folder) as database, registry(database, folder) as address:
            asyncio.run(measure(address, database, arguments))


async def measure(address: str, database: str, arguments: argparse.Namespace) -> None:
    client = Client(address)
    table = Table(
        title=f"{arguments.entries} entries of {arguments.items} items, ms: median / 95th percentile"
    )
    for column in ("board", "all items", "one section", "best of model", "ranks"):
        table.add_column(column)
    for label, samples, families in (
        ("right or wrong", 1, False),
        ("right or wrong, in families", 1, True),
        (f"{SAMPLES} samples an item", SAMPLES, False),
    ):
        dataset = await make_dataset(client, arguments.items, families=families)
        await load(client, database, dataset, arguments, samples)
        cells = []
        for fields in ({}, {"section": "section-2"}, {"best_of_model": True}):
            request = registry_service_pb2.GetLeaderboardRequest(dataset=dataset, **fields)
            cells.append(await timed(client, request, arguments.rounds))
        (board,) = (
            await client.registry.GetLeaderboard(registry_service_pb2.GetLeaderboardRequest(dataset=dataset))
        ).boards
        assert len(board.entries) == arguments.entries
        table.add_row(label, *cells, str(len({entry.rank for entry in board.entries})))
    await client.channel.close()
    Console().print(table)


async def timed(client: Client, request: registry_service_pb2.GetLeaderboardRequest, rounds: int) -> str:
    taken = []
    for _ in range(3 + rounds):
        began = time.perf_counter()
        await client.registry.GetLeaderboard(request)
        taken.append((time.perf_counter() - began) * 1000)
    cut = statistics.quantiles(taken[3:], n=20)
    return f"{statistics.median(taken[3:]):.0f} / {cut[18]:.0f}"


async def make_dataset(client: Client, items: int, *, families: bool) -> str:
    splits = [dataset_pb2.Split(name="test", fraction=1.0)]
    made = await client.registry.CreateDataset(
        registry_service_pb2.CreateDatasetRequest(dataset=dataset_pb2.Dataset(splits=splits))
    )
    traces = []
    for i in range(items):
        trace = dataset_pb2.Trace(
            id=f"item-{i:05}", prompt=f"{i} + 1 with {families}?", final_answer=str(i + 1)
        )
        trace.meta["section"] = f"section-{i % SECTIONS}"
        if families:
            trace.meta["family"] = f"family-{i % 40}"
        traces.append(trace)

    async def messages() -> AsyncIterator[registry_service_pb2.AppendTracesRequest]:
        for first in range(0, items, 500):
            yield registry_service_pb2.AppendTracesRequest(
                dataset=made.name, offset=first, traces=traces[first : first + 500]
            )

    async for _ in client.registry.AppendTraces(messages()):
        pass
    await client.registry.SealDataset(registry_service_pb2.SealDatasetRequest(name=made.name))
    return str(made.name)


async def load(
    client: Client, database: str, dataset: str, arguments: argparse.Namespace, samples: int
) -> None:
    """Evaluations of predictors, ended, with their items."""
    generator = np.random.default_rng(0)
    difficulty = generator.random(arguments.items)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        for number in range(arguments.entries):
            spec = complete_evaluation(
                evaluation_pb2.EvaluationSpec(
                    subject=f"predictors/p{number}",
                    dataset=dataset,
                    predictions=f"{number:064}",
                    samples=samples,
                    decoding=evaluation_pb2.Decoding(temperature=float(samples > 1)),
                )
            )
            job = job_service_pb2.Job(name="evaluations/", evaluation=spec)
            name = (await client.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))).name
            ability = 0.3 + 0.5 * number / arguments.entries
            chance = np.clip(0.5 + ability - difficulty, 0.02, 0.98)
            right = generator.random((arguments.items, samples)) < chance[:, None]
            await store(connection, name, right)
        await connection.execute("ANALYZE")


async def store(connection: psycopg.AsyncConnection[object], name: str, right: np.ndarray) -> None:
    async with connection.cursor().copy(
        "COPY item_scores (evaluation, trace_id, sample, position, outcome, score, item) FROM STDIN"
    ) as copy:
        for (position, sample), value in np.ndenumerate(right):
            item = evaluation_pb2.ItemScore(
                trace_id=f"item-{position:05}",
                position=position,
                sample=sample,
                output=OUTPUT,
                outcome=1 if value else 2,
                score=float(value),
            )
            row = (name, item.trace_id, sample, position, item.outcome, item.score, item.SerializeToString())
            await copy.write_row(row)
    result = evaluation_pb2.EvaluationResult(score=share_score(right.mean(axis=1).tolist()))
    await connection.execute(
        "UPDATE evaluations SET result = %s WHERE name = %s", [result.SerializeToString(), name]
    )
    await connection.execute(
        "UPDATE jobs SET state = %s, end_time = %s WHERE name = %s", [SUCCEEDED, datetime.now(UTC), name]
    )


if __name__ == "__main__":
    main()
