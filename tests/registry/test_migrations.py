"""Every earlier schema, with rows in all its tables, is brought up to the newest one without loss."""

from __future__ import annotations

import asyncio
import json
from importlib.resources import files

import psycopg
import pytest

from tunix_rt.registry.database import Database, known_migrations
from tunix_rt.registry.server import RegistryServer
from tunix_rt.registry.settings import Settings
from tunix_rt.v1 import (
    artifact_pb2,
    dataset_pb2,
    evaluation_pb2,
    job_service_pb2,
    model_pb2,
    registry_service_pb2,
    run_pb2,
    task_pb2,
)

NUMBERS = sorted(known_migrations())
TIME = "2026-01-01T00:00:00Z"
SHA = "a" * 64


def message(made) -> bytes:
    return made.SerializeToString()


def rows_of_first_schema(connection: psycopg.Connection) -> None:
    """A dataset with a trace, a run with a metric, a log and a checkpoint, an evaluation, a model version."""
    dataset = dataset_pb2.Dataset(name="datasets/d", state=2, trace_count=1, sha256=SHA)
    run = run_pb2.RunSpec(model="models/m/versions/v1", dataset="datasets/d")
    run.optimizer.learning_rate = 1e-3
    evaluation = evaluation_pb2.EvaluationSpec(subject="runs/r", dataset="datasets/d", split="test")
    labels = job_service_pb2.Job(labels={"team": "red"})
    artifact = artifact_pb2.Artifact(name="artifacts/a", kind="checkpoint", owner="runs/r", step=1)
    version = model_pb2.ModelVersion(name="models/m/versions/v1", digest=SHA)
    item = evaluation_pb2.ItemScore(trace_id="t", score=1, outcome=1, output="42")
    record = {
        "id": "t",
        "prompt": "6 * 7?",
        "final_answer": "42",
        "answer_type": "number",
        "aliases": [],
        "steps": [{"type": "compute", "content": "6 * 7 = 42"}],
        "completion": "",
        "split": "",
        "meta": {},
    }
    execute = connection.execute
    execute("INSERT INTO requests (request_id, digest, name) VALUES ('q', 'x', 'runs/r')")
    execute("INSERT INTO datasets VALUES ('datasets/d', 2, 1, %s, %s)", [message(dataset), TIME])
    execute(
        "INSERT INTO traces VALUES ('datasets/d', 0, 't', 'c', 'test', %s)",
        [json.dumps(record).encode()],
    )
    jobs = (("runs/r", "run", run), ("evaluations/e", "evaluation", evaluation))
    for name, kind, spec in jobs:
        execute(
            "INSERT INTO jobs (name, kind, state, attempt, max_attempts, spec, description, labels, dataset,"
            " create_time) VALUES (%s, %s, 3, 1, 5, %s, 'of old', %s, 'datasets/d', %s)",
            [name, kind, message(spec), message(labels), TIME],
        )
    execute("INSERT INTO runs (name, model_artifact) VALUES ('runs/r', 'artifacts/a')")
    execute(
        "INSERT INTO evaluations (name, subject, dataset_sha256, board)"
        " VALUES ('evaluations/e', 'runs/r', %s, 'b')",
        [SHA],
    )
    execute(
        "INSERT INTO item_scores (evaluation, trace_id, position, outcome, score, item)"
        " VALUES ('evaluations/e', 't', 0, 1, 1, %s)",
        [message(item)],
    )
    execute("INSERT INTO metric_streams VALUES ('runs/r', 1, 2, 1)")
    execute("INSERT INTO metric_summary VALUES ('runs/r', 'train/loss', 0.5, 2, 0.5, 2, 1.5, 1, 2)")
    chunk = [
        (1).to_bytes(8, "little") + (2).to_bytes(8, "little"),
        bytes.fromhex("000000000000f83f000000000000e03f"),  # 1.5 and 0.5
        bytes(16),
        (0).to_bytes(4, "little") + (1).to_bytes(4, "little"),
    ]
    execute("INSERT INTO metric_chunks VALUES ('runs/r', 1, 0, 'train/loss', %s, %s, %s, %s)", chunk)
    execute("INSERT INTO log_streams VALUES ('runs/r', 1, 1)")
    log = message(job_service_pb2.StreamLogsRequest(lines=["a line"]))
    execute("INSERT INTO log_chunks VALUES ('runs/r', 1, 0, %s)", [log])
    execute(
        "INSERT INTO artifacts VALUES ('artifacts/a', 'checkpoint', 'runs/r', 1, 'x', %s, %s)",
        [message(artifact), TIME],
    )
    execute(
        "INSERT INTO model_versions VALUES ('models/m/versions/v1', 'models/m', '', %s, %s, %s)",
        [SHA, message(version), TIME],
    )


def rows_of_tasks(connection: psycopg.Connection) -> None:
    """A task version."""
    version = task_pb2.TaskVersion(name="tasks/t/versions/v1")
    connection.execute(
        "INSERT INTO task_versions VALUES ('tasks/t/versions/v1', 'tasks/t', 'b', %s, %s)",
        [message(version), TIME],
    )


ROWS = {1: rows_of_first_schema, 3: rows_of_tasks}
"""What fills the tables of a migration, before the next ones change them."""


@pytest.fixture(params=NUMBERS, ids=lambda number: f"from-{number:04}")
def old_database(request, make_database) -> str:
    """A database of an earlier schema with rows."""
    url = make_database()
    folder = files("tunix_rt.registry") / "migrations"
    scripts = {
        int(file.name[:4]): file.read_text() for file in folder.iterdir() if file.name.endswith(".sql")
    }

    async def bring_to(number: int) -> None:
        database = Database(url)
        await database.open(migrate=False)
        async with database.transaction() as tx:
            await tx.migrate({each for each in scripts if each <= number})
        await database.close()

    for number in sorted(scripts):
        if number <= request.param:
            asyncio.run(bring_to(number))
            if number in ROWS:
                with psycopg.connect(url) as connection:
                    ROWS[number](connection)
    return url


async def test_rows_of_every_earlier_schema_are_read_by_this_version(old_database, open_registry):
    registry = await open_registry(old_database)
    service, get = registry.registry, registry_service_pb2
    run = await service.GetRun(get.GetRunRequest(name="runs/r"))
    assert (run.description, dict(run.labels), run.spec.optimizer.learning_rate) == (
        "of old",
        {"team": "red"},
        1e-3,
    )
    assert [(each.metric, each.last, each.min, each.max) for each in run.metrics] == [
        ("train/loss", 0.5, 0.5, 1.5)
    ]
    wanted = run_pb2.RunFilter(
        labels={"team": "red"},
        models=["models/m"],
        parameters=[run_pb2.ParameterMatch(path="optimizer.learning_rate", low=1e-3)],
    )
    wanted.metrics.add(metric="train/loss", high=0.6)
    found = await service.ListRuns(get.ListRunsRequest(filter=wanted))
    assert [each.name for each in found.runs] == ["runs/r"]
    points = (await service.ListMetrics(get.ListMetricsRequest(run="runs/r"))).points
    assert [(point.step, point.value) for point in points] == [(1, 1.5), (2, 0.5)]
    logs = (await service.ListLogs(get.ListLogsRequest(name="runs/r"))).lines
    assert [line.text for line in logs] == ["a line"]
    items = (await service.ListItemScores(get.ListItemScoresRequest(evaluation="evaluations/e"))).item_scores
    assert [(item.trace_id, item.output, item.score) for item in items] == [("t", "42", 1.0)]
    traces = (await service.ListTraces(get.ListTracesRequest(dataset="datasets/d"))).traces
    assert [trace.final_answer for trace in traces] == ["42"]
    assert (await service.GetArtifact(get.GetArtifactRequest(name="artifacts/a"))).owner == "runs/r"
    version = await service.GetModelVersion(get.GetModelVersionRequest(name="models/m/versions/v1"))
    assert version.digest == SHA


async def test_two_servers_that_start_at_once_migrate_an_old_database_once(old_database, tmp_path):
    settings = Settings(database=old_database, blobs=f"file://{tmp_path}", listen="127.0.0.1:0")
    servers = [RegistryServer(settings) for _ in range(2)]
    await asyncio.gather(*(server.start() for server in servers))
    await asyncio.gather(*(server.stop(0) for server in servers))
    with psycopg.connect(old_database) as connection:
        applied = connection.execute("SELECT number FROM migrations ORDER BY number").fetchall()
        assert [number for (number,) in applied] == NUMBERS
        (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        assert runs == 1
