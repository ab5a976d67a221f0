"""Runs that are older than the tables they are found by are filled in, and plans use the indexes."""

from __future__ import annotations

from importlib.resources import files

import psycopg
import pytest

from tunix_rt.registry import run_pages
from tunix_rt.registry.database import Database
from tunix_rt.registry.run_filter import Conditions
from tunix_rt.v1 import job_service_pb2, registry_service_pb2, run_pb2

OLD = ("0001_initial.sql", "0002_samples.sql", "0003_tasks.sql")


@pytest.fixture
def old_database(make_database):
    """A database of the third schema with two runs: one labelled and measured, one with a NaN."""
    url = make_database()
    spec = run_pb2.RunSpec(model="models/m/versions/1", dataset="datasets/d")
    spec.optimizer.learning_rate = 1e-3
    labels = job_service_pb2.Job(labels={"team": "red"}).SerializeToString()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE migrations (number integer PRIMARY KEY, apply_time timestamptz)")
        for number, name in enumerate(OLD, start=1):
            connection.execute((files("tunix_rt.registry") / "migrations" / name).read_text().encode())
            connection.execute("INSERT INTO migrations (number) VALUES (%s)", [number])
        connection.execute("INSERT INTO datasets VALUES ('datasets/d', 2, 0, '', now())")
        for name, loss in (("runs/a", 1.5), ("runs/b", float("nan"))):
            connection.execute(
                "INSERT INTO jobs (name, kind, state, max_attempts, spec, description, labels, dataset,"
                " create_time) VALUES (%s, 'run', 3, 5, %s, %s, %s, 'datasets/d', now())",
                [name, spec.SerializeToString(), b"of old", labels],
            )
            connection.execute("INSERT INTO runs (name) VALUES (%s)", [name])
            connection.execute(
                "INSERT INTO metric_summary VALUES (%s, 'train/loss', %s, 1, %s, 1, %s, 1, 1)",
                [name, loss, loss, loss],
            )
    return url


async def test_old_runs_are_found_by_what_is_new(open_registry, old_database):
    registry = await open_registry(old_database)
    wanted = run_pb2.RunFilter(
        labels={"team": "red"},
        models=["models/m"],
        text="of OLD",
        parameters=[run_pb2.ParameterMatch(path="optimizer.learning_rate", low=1e-3)],
    )
    request = registry_service_pb2.ListRunsRequest(
        filter=wanted, order=run_pb2.RunOrder(metric="train/loss", ascending=True)
    )
    assert [run.name for run in (await registry.registry.ListRuns(request)).runs] == ["runs/a", "runs/b"]
    wanted.metrics.add(metric="train/loss", low=1)
    request = registry_service_pb2.ListRunsRequest(filter=wanted)
    assert [run.name for run in (await registry.registry.ListRuns(request)).runs] == ["runs/a"]


class Explained:
    """A transaction that explains the statements whose rows are asked for, and answers none."""

    def __init__(self, tx) -> None:
        self._tx = tx
        self.plans: list[str] = []

    async def all(self, sql, /, **params):
        rows = await self._tx.all(f"EXPLAIN {sql}", **params)
        self.plans.append("\n".join(row["QUERY PLAN"] for row in rows))
        return []


@pytest.fixture
async def many(open_registry, make_database):
    """A database with 3,000 runs and two metrics of each."""
    registry = await open_registry(make_database())
    with psycopg.connect(registry.database, autocommit=True) as connection:
        connection.execute("INSERT INTO datasets VALUES ('datasets/d', 2, 0, '', now())")
        connection.execute(
            "INSERT INTO jobs (name, kind, state, max_attempts, spec, dataset, create_time)"
            " SELECT 'runs/r' || n, 'run', 3, 5, '', 'datasets/d', now() FROM generate_series(1, 3000) n"
        )
        connection.execute(
            "INSERT INTO runs (name, number, create_time, dataset)"
            " SELECT name, queue_order, create_time, dataset FROM jobs"
        )
        connection.execute(
            "INSERT INTO run_values SELECT number, m, 1, random(), random(), random() FROM runs,"
            " unnest(ARRAY['a', 'b']) m"
        )
        connection.execute("VACUUM ANALYZE")
    database = Database(registry.database)
    await database.open()
    yield database
    await database.close()


async def test_an_order_by_a_metric_reads_an_index_and_sorts_nothing(many):
    for column, ascending in (("last", True), ("min", False)):
        order = run_pages.Order("run_values", "a", column, ascending)
        async with many.transaction() as tx:
            explained = Explained(tx)
            await run_pages.page(
                explained, Conditions(visibility=1), None, order, run_pages.Place(9, 0.5), 51
            )
        direction = "" if ascending else "Backward "
        assert f"Index Only Scan {direction}using run_values_by_{column}" in explained.plans[0]
        assert "Sort" not in explained.plans[0]


async def test_a_few_runs_are_sorted_without_reading_the_order(many):
    order = run_pages.Order("run_values", "a", "last")
    async with many.transaction() as tx:
        explained = Explained(tx)
        await run_pages.page(explained, Conditions(visibility=1), [5, 6, 7], order, None, 51)
    assert "Index Scan on run_values_pkey" in explained.plans[0]


async def test_many_runs_that_match_are_looked_up_along_the_order(many):
    wanted = Conditions(visibility=1)
    wanted.add("position({text} IN r.search_text) = 0", text="x")
    order = run_pages.Order("run_values", "a", "last")
    async with many.transaction() as tx:
        explained = Explained(tx)
        await run_pages.page(explained, wanted, None, order, None, 51)
    assert "run_values_by_last" in explained.plans[0]
    assert "Index Cond: ((visibility = 1) AND (number = o.run))" in explained.plans[0]
    assert "Sort" not in explained.plans[0]


async def test_the_newest_runs_are_read_from_an_index(many):
    async with many.transaction() as tx:
        explained = Explained(tx)
        await run_pages.page(explained, Conditions(visibility=1), None, run_pages.Order(), None, 51)
    assert "Index Only Scan Backward using runs_newest" in explained.plans[0]
