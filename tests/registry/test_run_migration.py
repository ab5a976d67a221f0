"""Runs that are older than the tables they are found by are filled in, and plans use the indexes."""

from __future__ import annotations

from importlib.resources import files

import psycopg
import pytest

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
