"""A backup, restored into an empty stack, has every row and every byte; anything less is refused."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tunix_rt.blobs.directory import DirectoryBlobs
from tunix_rt.registry import backup
from tunix_rt.registry.archive import Manifest
from tunix_rt.registry.backup import back_up
from tunix_rt.registry.database import Database, known_migrations
from tunix_rt.registry.restore import restore
from tunix_rt.rpc.errors import ApiError
from tunix_rt.v1 import (
    dataset_pb2,
    evaluation_pb2,
    job_service_pb2,
    model_pb2,
    registry_service_pb2,
    run_pb2,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def rows_of(database: str) -> dict[str, list[str]]:
    """All rows of all tables but that of the migrations, as texts in order."""
    with psycopg.connect(database) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migrations'"
        ).fetchall()
        query = SQL('SELECT t::text COLLATE "C" FROM {} t ORDER BY 1')
        return {
            name: [row for (row,) in connection.execute(query.format(Identifier(name)))] for (name,) in tables
        }


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("sha256/*/*")}


async def backed_up(registry, **options) -> bytes:
    out = io.BytesIO()
    await back_up(Database(registry.database), DirectoryBlobs(registry.blobs), out, now=NOW, **options)
    return out.getvalue()


Restoring = Callable[..., Awaitable[Manifest]]


@pytest.fixture
def target(make_database, tmp_path):
    """An empty database and a folder that is not there yet."""
    return make_database(), tmp_path / "restored"


@pytest.fixture
def restoring(target) -> Restoring:
    async def run(data: bytes) -> Manifest:
        url, folder = target
        database = Database(url)
        await database.open(migrate=False)
        try:
            return await restore(database, DirectoryBlobs(folder), io.BytesIO(data))
        finally:
            await database.close()

    return run


async def refused(call: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await call
    return caught.value


@pytest.fixture
async def full(registry):
    """A registry with rows in every table: a run that has ended, one that trains, an evaluation, a task."""
    ended = await registry.running()
    await registry.send_points(
        ended, [run_pb2.MetricPoint(metric="train/loss", step=s, value=1 / s) for s in range(1, 60)]
    )

    async def lines():
        yield job_service_pb2.StreamLogsRequest(name=ended.name, attempt=1, lines=["a", "\0 ü"])

    assert [answer.committed async for answer in registry.jobs.StreamLogs(lines())] == [0, 2]
    await registry.succeed_run(ended)
    await registry.registry.UpdateRun(
        registry_service_pb2.UpdateRunRequest(
            run=run_pb2.Run(name=ended.name, labels={"team": "red"}, tags=["a", "b,\\c"], notes="é"),
            update_mask={"paths": ["labels", "tags", "notes"]},
        )
    )
    dataset = (await registry.sealed_dataset(40)).name
    spec = evaluation_pb2.EvaluationSpec(subject=ended.name, dataset=dataset)
    job = job_service_pb2.Job(name="evaluations/", evaluation=spec)
    queued = await registry.jobs.EnqueueJob(
        job_service_pb2.EnqueueJobRequest(job=job, request_id="a5a3e0c8-3f0f-4c9a-9a86-0d6f6f1d7b3e")
    )
    await registry.succeed_evaluation(queued.name, 7, 10)
    task = registry_service_pb2.CreateTaskVersionRequest(parent="tasks/t")
    task.task_version.spec.CopyFrom(evaluation_pb2.EvaluationSpec(dataset=dataset))
    await registry.registry.CreateTaskVersion(task)
    await add_model_records(registry, queued.name)
    await add_derived_dataset(registry, dataset)
    registry.ended, registry.training = ended.name, await registry.running(dataset=dataset)
    return registry


async def add_model_records(registry, evaluation):
    """An alias and a baseline, and the events that tell of them."""
    version = await registry.model()
    alias = registry_service_pb2.SetModelAliasRequest(name="models/tiny/aliases/champion", version=version)
    await registry.registry.SetModelAlias(alias)
    baseline = model_pb2.Baseline(model="models/tiny", evaluation=evaluation)
    await registry.registry.SetBaseline(registry_service_pb2.SetBaselineRequest(baseline=baseline))


async def add_derived_dataset(registry, parent):
    """A dataset that is made from another, with its statistics."""
    derivation = dataset_pb2.Derivation(method="filter")
    dataset = dataset_pb2.Dataset(parents=[parent], derivation=derivation)
    request = registry_service_pb2.CreateDatasetRequest(dataset=dataset)
    made = await registry.registry.CreateDataset(request)
    await registry.append(made.name, registry.make_traces(10))
    await registry.registry.SealDataset(registry_service_pb2.SealDatasetRequest(name=made.name))
    statistics = registry_service_pb2.GetDatasetStatisticsRequest(name=made.name)
    await registry.registry.GetDatasetStatistics(statistics)


async def test_every_row_and_every_byte_is_restored(full, restoring, target):
    before = rows_of(full.database)
    assert [table for table, rows in before.items() if not rows] == []
    manifest = await restoring(await backed_up(full))
    assert rows_of(target[0]) == before
    assert bytes_of(target[1]) == bytes_of(full.blobs)
    assert {table: total.rows for table, total in manifest.tables.items()} == {
        table: len(rows) for table, rows in before.items()
    }


async def test_a_restored_registry_goes_on(full, restoring, target, open_registry, tmp_path):
    await restoring(await backed_up(full))
    shutil.rmtree(tmp_path / "blobs")
    target[1].rename(tmp_path / "blobs")
    restored = await open_registry(target[0])
    job = full.training
    await restored.send_points(job, [run_pb2.MetricPoint(metric="train/loss", step=1, value=2)])
    await restored.succeed_run(job)
    run = await restored.registry.GetRun(registry_service_pb2.GetRunRequest(name=job.name))
    assert (run.status.state, run.metrics[0].last) == (3, 2)
    listed = await restored.registry.ListRuns(registry_service_pb2.ListRunsRequest())
    newest = await restored.enqueue(dataset=run.spec.dataset, model=run.spec.model)
    assert [each.name for each in listed.runs] == [job.name, full.ended]
    listed = await restored.registry.ListRuns(registry_service_pb2.ListRunsRequest())
    assert listed.runs[0].name == newest.name


async def test_rows_that_come_during_a_backup_are_not_in_it(full, restoring, target):
    class Slow(io.BytesIO):
        """Adds a dataset while the backup is written."""

        added = False

        def write(self, data):
            if not self.added:
                Slow.added = True
                with psycopg.connect(full.database) as connection:
                    connection.execute("INSERT INTO datasets VALUES ('datasets/late', 1, 0, '', now())")
            return super().write(data)

    before, out = rows_of(full.database), Slow()
    await back_up(Database(full.database), DirectoryBlobs(full.blobs), out, now=NOW)
    assert len(rows_of(full.database)["datasets"]) == len(before["datasets"]) + 1
    await restoring(out.getvalue())
    assert rows_of(target[0]) == before


async def test_nothing_is_deleted_during_a_backup(full):
    await full.registry.DeleteRuns(registry_service_pb2.DeleteRunsRequest(names=[full.ended]))
    request = registry_service_pb2.CollectGarbageRequest(remove=True)
    request.min_age.SetInParent()
    stored = bytes_of(full.blobs)
    async with Database(full.database).snapshot():
        failure = await full.failure_of(full.registry.CollectGarbage(request))
        assert failure.reason == "BACKUP_RUNNING"
        assert bytes_of(full.blobs) == stored
    assert (await full.registry.CollectGarbage(request)).blob_count == 1


async def test_a_database_with_rows_is_not_restored_into(full, restoring, target, open_registry):
    data = await backed_up(full)
    other = await open_registry(target[0])
    await other.sealed_dataset()
    before = rows_of(target[0])
    error = await refused(restoring(data))
    assert (error.reason, error.metadata) == ("TARGET_NOT_EMPTY", {"table": "datasets"})
    assert rows_of(target[0]) == before
    assert not target[1].exists() or not bytes_of(target[1])


async def test_a_database_that_a_registry_has_prepared_is_empty(full, restoring, target):
    database = Database(target[0])
    await database.open()
    await database.close()
    await restoring(await backed_up(full))
    assert rows_of(target[0]) == rows_of(full.database)


def place_of(data: bytes, entry: str) -> int:
    """Where the bytes of an entry begin."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return next(member for member in tar if member.name.startswith(entry)).offset_data


@pytest.mark.parametrize("entry", ["backup.json", "tables/traces", "blobs/", "manifest.json"])
async def test_a_backup_that_was_cut_short_is_refused(full, restoring, target, entry):
    data = await backed_up(full)
    error = await refused(restoring(data[: place_of(data, entry) + 20]))
    assert error.reason == "BACKUP_INVALID"
    assert rows_of(target[0]) == {}


@pytest.mark.parametrize("entry", ["backup.json", "tables/traces", "tables/jobs", "blobs/"])
async def test_a_flipped_bit_is_found_before_anything_is_restored(full, restoring, target, entry):
    data = bytearray(await backed_up(full))
    data[place_of(data, entry) + 5] ^= 1
    error = await refused(restoring(bytes(data)))
    assert error.reason == "BACKUP_INVALID"
    assert rows_of(target[0]) == {}
    assert not bytes_of(target[1])


def with_header(data: bytes, **changes) -> bytes:
    """The backup with other values in its header."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=out, mode="w|") as new:
        for member in old:
            content = old.extractfile(member).read()
            if member.name == "backup.json":
                content = json.dumps({**json.loads(content), **changes}).encode()
                digest = hashlib.sha256(content).hexdigest()
            if member.name == "manifest.json":
                content = json.dumps({**json.loads(content), "header_sha256": digest}).encode()
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return out.getvalue()


async def test_a_backup_of_a_later_version_is_refused(full, restoring, target):
    data = with_header(await backed_up(full), migrations=[*sorted(known_migrations()), 9999], version="9.9")
    error = await refused(restoring(data))
    assert error.reason == "SCHEMA_MISMATCH"
    assert "tunix-rt 9.9" in error.message
    assert "that version or a later one" in error.message


async def test_a_database_of_another_version_is_not_backed_up(full):
    with psycopg.connect(full.database) as connection:
        connection.execute("INSERT INTO migrations (number) VALUES (9999)")
    error = await refused(backed_up(full))
    assert (error.reason, error.metadata["database"]) == ("SCHEMA_MISMATCH", "9999")
    with psycopg.connect(full.database) as connection:
        connection.execute("DELETE FROM migrations WHERE number = 9999")


async def test_a_backup_of_an_earlier_version_is_brought_up_to_this_one(
    make_database, restoring, target, open_registry, tmp_path, monkeypatch
):
    old = make_database()
    database = Database(old)
    await database.open(migrate=False)
    async with database.transaction() as tx:
        await tx.migrate({1, 2, 3})
        await tx.execute("INSERT INTO datasets VALUES ('datasets/d', 1, 0, '', now())")
        await tx.execute(
            "INSERT INTO jobs (name, kind, state, max_attempts, spec, dataset, create_time)"
            " VALUES ('runs/old', 'run', 3, 5, '', 'datasets/d', now())"
        )
        await tx.execute("INSERT INTO runs (name) VALUES ('runs/old')")
    await database.close()
    out = io.BytesIO()
    with monkeypatch.context() as earlier:
        earlier.setattr(backup, "known_migrations", lambda: frozenset({1, 2, 3}))
        await back_up(Database(old), DirectoryBlobs(tmp_path / "old"), out, now=NOW)
    await restoring(out.getvalue())
    restored = await open_registry(target[0])
    listed = await restored.registry.ListRuns(registry_service_pb2.ListRunsRequest())
    assert [run.name for run in listed.runs] == ["runs/old"]


async def test_a_backup_of_an_earlier_version_needs_a_database_without_tables(full, restoring, target):
    database = Database(target[0])
    await database.open()
    await database.close()
    error = await refused(restoring(with_header(await backed_up(full), migrations=[1, 2, 3])))
    assert error.reason == "SCHEMA_MISMATCH"
    assert "a database without tables" in error.message


async def test_missing_bytes_stop_a_backup_unless_they_are_allowed(full, restoring, target):
    model = next(iter(full.model_files()))
    file = await full.upload(full.model_files()[model])
    (full.blobs / "sha256" / file.sha256[:2] / file.sha256).unlink()
    error = await refused(backed_up(full))
    assert (error.reason, error.metadata) == ("BLOB_MISSING", {"sha256": file.sha256})
    manifest = await restoring(await backed_up(full, allow_damaged=True))
    assert manifest.damaged == (file.sha256,)
    assert bytes_of(target[1]) == bytes_of(full.blobs)


async def test_damaged_bytes_stop_a_backup_unless_they_are_allowed(full, restoring, target):
    file = await full.upload(full.model_files()["model.safetensors"])
    path = full.blobs / "sha256" / file.sha256[:2] / file.sha256
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    error = await refused(backed_up(full))
    assert (error.reason, error.metadata) == ("BLOB_CORRUPT", {"sha256": file.sha256})
    manifest = await restoring(await backed_up(full, allow_damaged=True))
    assert manifest.damaged == (file.sha256,)
    stored = bytes_of(full.blobs)
    del stored[file.sha256]
    assert bytes_of(target[1]) == stored
