"""What deleted runs leave is collected; what anything still names is not."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from google.protobuf.duration_pb2 import Duration

from tunix_rt.registry import deletion
from tunix_rt.registry.database import Database
from tunix_rt.v1 import artifact_pb2, evaluation_pb2, job_service_pb2, registry_service_pb2, run_pb2

DAY = 86_400


async def collect(registry, *, remove=False, age=0):
    request = registry_service_pb2.CollectGarbageRequest(remove=remove, min_age=Duration(seconds=age))
    return await registry.registry.CollectGarbage(request)


async def delete(registry, name):
    await registry.registry.DeleteRuns(registry_service_pb2.DeleteRunsRequest(names=[name]))


async def get(registry, name):
    return await registry.registry.GetRun(registry_service_pb2.GetRunRequest(name=name))


@pytest.fixture
async def ended(registry):
    """A run that has succeeded, with a metric and an artifact of three files, two of them also its base's."""
    job = await registry.running()

    async def messages():
        yield job_service_pb2.StreamMetricsRequest(
            name=job.name,
            attempt=job.status.attempt,
            points=[run_pb2.MetricPoint(metric="train/loss", step=1, value=1)],
        )

    assert [answer.committed async for answer in registry.jobs.StreamMetrics(messages())][-1] == 1
    return (await registry.succeed_run(job)).name


async def test_nothing_is_garbage_while_everything_is_named(registry, ended):
    assert await collect(registry, remove=True) == registry_service_pb2.CollectGarbageResponse()
    assert (await get(registry, ended)).model_artifact


async def test_a_dry_run_says_what_would_go_and_removes_nothing(registry, ended):
    await delete(registry, ended)
    found = await collect(registry)
    assert (list(found.runs), found.artifact_count, found.blob_count) == ([ended], 1, 1)
    assert found.size_bytes == len(registry.model_files(ended)["tokenizer.json"])
    assert await collect(registry) == found
    restored = await registry.registry.UndeleteRuns(registry_service_pb2.UndeleteRunsRequest(names=[ended]))
    assert restored.runs[0].metrics[0].metric == "train/loss"


async def test_a_collected_run_leaves_its_record_and_nothing_else(registry, ended):
    artifact = (await get(registry, ended)).model_artifact
    await delete(registry, ended)
    before = await collect(registry)
    assert await collect(registry, remove=True) == before
    assert await collect(registry, remove=True) == registry_service_pb2.CollectGarbageResponse()
    run = await get(registry, ended)
    assert (run.model_artifact, list(run.metrics), run.HasField("delete_time")) == ("", [], True)
    failure = await registry.failure_of(
        registry.registry.GetArtifact(registry_service_pb2.GetArtifactRequest(name=artifact))
    )
    assert failure.reason == "RESOURCE_NOT_FOUND"
    request = registry_service_pb2.ListRunsRequest(
        filter=run_pb2.RunFilter(visibility=run_pb2.RunFilter.DELETED)
    )
    assert not (await registry.registry.ListRuns(request)).runs


async def test_a_collected_run_cannot_be_restored(registry, ended):
    await delete(registry, ended)
    await collect(registry, remove=True)
    failure = await registry.failure_of(
        registry.registry.UndeleteRuns(registry_service_pb2.UndeleteRunsRequest(names=[ended]))
    )
    assert failure.reason == "RUN_DELETED"


async def test_runs_deleted_lately_stay(registry, ended):
    await delete(registry, ended)
    assert not (await collect(registry, remove=True, age=DAY)).runs
    assert not (await registry.registry.CollectGarbage(registry_service_pb2.CollectGarbageRequest())).runs


async def test_bytes_stored_lately_stay(registry):
    await registry.upload(b"about to be named")
    assert not (await collect(registry, remove=True, age=DAY)).blob_count
    assert (await collect(registry, remove=True)).blob_count == 1


async def test_a_run_that_is_being_evaluated_stays(registry, ended):
    dataset = (await registry.sealed_dataset(40)).name
    job = job_service_pb2.Job(
        name="evaluations/", evaluation=evaluation_pb2.EvaluationSpec(subject=ended, dataset=dataset)
    )
    await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
    await delete(registry, ended)
    assert not (await collect(registry, remove=True)).runs


async def test_ages_out_of_range_are_refused_together(registry):
    ages = {name: Duration(seconds=-1) for name in ("min_age", "archived_age", "checkpoint_age")}
    request = registry_service_pb2.CollectGarbageRequest(**ages)
    failure = await registry.failure_of(registry.registry.CollectGarbage(request))
    assert list(failure.fields) == ["min_age", "archived_age", "checkpoint_age"]


async def retried(registry, make):
    """What a call answers that uploads again whenever its bytes were collected before it could name them."""
    while True:
        call = asyncio.ensure_future(make())
        await asyncio.wait([call])
        if call.exception() is None:
            return call.result()
        assert (await registry.failure_of(call)).reason == "BLOB_MISSING"


async def test_what_is_named_while_garbage_is_collected_keeps_its_bytes(registry):
    """Artifacts, a model version and sealed datasets are made against a collection that takes all ages."""
    job = await registry.running()
    done = asyncio.Event()

    async def collect_on():
        while not done.is_set():
            await collect(registry, remove=True)

    async def record(number):
        files = await registry.files({"a": f"{number} a".encode(), "b": f"{number % 3} b".encode()})
        artifact = artifact_pb2.Artifact(kind="checkpoint", step=number, files=files)
        request = job_service_pb2.RecordArtifactRequest(name=job.name, attempt=1, artifact=artifact)
        return await registry.jobs.RecordArtifact(request)

    async def import_model():
        return await registry.model(description="made meanwhile")

    collecting = asyncio.gather(*(collect_on() for _ in range(2)))
    made = await asyncio.gather(*(retried(registry, lambda n=n: record(n)) for n in range(20)))
    await retried(registry, import_model)
    sealed = [await registry.sealed_dataset(size) for size in range(31, 34)]
    done.set()
    await collecting
    files = [file.sha256 for artifact in made for file in artifact.files]
    for digest in [*files, *(dataset.sha256 for dataset in sealed)]:
        path = registry.blobs / "sha256" / digest[:2] / digest
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


async def test_a_collection_waits_for_who_is_about_to_name_bytes(registry):
    file = await registry.upload(b"about to be named")
    database = Database(registry.database)
    await database.open()
    async with database.transaction() as tx:
        await deletion.forbid(tx)
        collecting = asyncio.ensure_future(collect(registry, remove=True))
        await asyncio.wait([collecting], timeout=0.2)
        assert not collecting.done()
        assert (registry.blobs / "sha256" / file.sha256[:2] / file.sha256).exists()
    assert (await collecting).blob_count == 1
    await database.close()


@pytest.fixture
async def aged(open_registry, clock):
    """A run that succeeded with a checkpoint, and one that is archived and open; both a day ago."""
    registry = await open_registry(clock=clock)
    job = await registry.running()
    artifact = artifact_pb2.Artifact(kind="checkpoint", step=1, files=await registry.files({"c": b"state"}))
    request = job_service_pb2.RecordArtifactRequest(name=job.name, attempt=1, artifact=artifact)
    await registry.jobs.RecordArtifact(request)
    registry.ended = (await registry.succeed_run(job)).name
    registry.open = (await registry.enqueue()).name
    names = [registry.ended, registry.open]
    await registry.registry.ArchiveRuns(registry_service_pb2.ArchiveRunsRequest(names=names))
    clock.advance(DAY)
    return registry


async def retain(registry, *, remove, **days):
    ages = {f"{name}_age": Duration(seconds=round(age * DAY)) for name, age in days.items()}
    request = registry_service_pb2.CollectGarbageRequest(remove=remove, **ages)
    return await registry.registry.CollectGarbage(request)


async def visible(registry, visibility):
    wanted = run_pb2.RunFilter(visibility=visibility)
    listed = await registry.registry.ListRuns(registry_service_pb2.ListRunsRequest(filter=wanted))
    return [run.name for run in listed.runs]


async def test_archived_runs_are_deleted_at_their_age_and_open_ones_stay(aged):
    assert not (await retain(aged, remove=True, archived=2)).expired_runs
    assert list((await retain(aged, remove=True, archived=1)).expired_runs) == [aged.ended]
    assert await visible(aged, run_pb2.RunFilter.DELETED) == [aged.ended]
    assert await visible(aged, run_pb2.RunFilter.ARCHIVED) == [aged.open]
    await aged.registry.UndeleteRuns(registry_service_pb2.UndeleteRunsRequest(names=[aged.ended]))


async def test_checkpoints_of_succeeded_runs_are_removed_at_their_age_and_the_weights_stay(aged):
    assert (await retain(aged, remove=True, checkpoint=2)).checkpoint_count == 0
    assert (await retain(aged, remove=True, checkpoint=1)).checkpoint_count == 1
    request = registry_service_pb2.ListArtifactsRequest(owner=aged.ended)
    left = (await aged.registry.ListArtifacts(request)).artifacts
    assert [artifact.kind for artifact in left] == ["model"]


async def test_a_dry_run_of_a_policy_changes_nothing(aged):
    first = await retain(aged, remove=False, archived=0, checkpoint=0)
    assert (list(first.expired_runs), first.checkpoint_count) == ([aged.ended], 1)
    assert await retain(aged, remove=False, archived=0, checkpoint=0) == first
    assert await visible(aged, run_pb2.RunFilter.ARCHIVED) == [aged.open, aged.ended]
    assert await retain(aged, remove=True, archived=0, checkpoint=0) == first


async def test_without_ages_nothing_expires(aged):
    answer = await retain(aged, remove=True)
    assert (list(answer.expired_runs), answer.checkpoint_count) == ([], 0)
