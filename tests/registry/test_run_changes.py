"""Runs are updated by field mask, archived, deleted and restored."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tunix_rt.v1 import evaluation_pb2, job_service_pb2, registry_service_pb2, run_pb2


@pytest.fixture
async def run(registry):
    """A queued run with labels."""
    job = job_service_pb2.Job(
        name="runs/a",
        run=run_pb2.RunSpec(
            model=await registry.model(), dataset=(await registry.sealed_dataset()).name, steps=3
        ),
        labels={"team": "red", "lang": "en"},
        description="first",
        notes="why",
    )
    await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
    return run_pb2.Run(name="runs/a")


@pytest.fixture
async def ended(registry):
    """The name of a run that has succeeded and measured a loss of 1."""
    job = await registry.running()

    async def messages():
        yield job_service_pb2.StreamMetricsRequest(
            name=job.name,
            attempt=job.status.attempt,
            points=[run_pb2.MetricPoint(metric="train/loss", step=1, value=1)],
        )

    assert [answer.committed async for answer in registry.jobs.StreamMetrics(messages())][-1] == 1
    return (await registry.succeed_run(job)).name


def update(registry, run, *paths):
    return registry.registry.UpdateRun(
        registry_service_pb2.UpdateRunRequest(run=run, update_mask=FieldMask(paths=paths))
    )


async def listed(registry, visibility="ACTIVE", **fields):
    request = registry_service_pb2.ListRunsRequest(
        filter=run_pb2.RunFilter(visibility=run_pb2.RunFilter.Visibility.Value(visibility)), **fields
    )
    return [run.name for run in (await registry.registry.ListRuns(request)).runs]


async def test_only_the_fields_of_the_mask_change(registry, run):
    run.MergeFrom(run_pb2.Run(description="second", notes="because", tags=["b", "a"]))
    changed = await update(registry, run, "notes", "tags")
    assert (changed.description, changed.notes, list(changed.tags)) == ("first", "because", ["a", "b"])
    assert dict(changed.labels) == {"team": "red", "lang": "en"}
    assert changed.spec.steps == 3


async def test_one_label_is_set_or_removed_alone(registry, run):
    run.labels["team"] = "blue"
    run.labels["x.y"] = "new"
    changed = await update(registry, run, "labels.team", "labels.lang", "labels.x.y")
    assert dict(changed.labels) == {"team": "blue", "x.y": "new"}


async def test_an_updated_run_is_found_by_its_new_values(registry, run):
    run.MergeFrom(run_pb2.Run(description="Größer", labels={"team": "blue"}, tags=["new"]))
    await update(registry, run, "*")
    for found in (
        run_pb2.RunFilter(labels={"team": "blue"}, tags=["new"], text="größer"),
        run_pb2.RunFilter(),
    ):
        request = registry_service_pb2.ListRunsRequest(filter=found)
        assert len((await registry.registry.ListRuns(request)).runs) == 1
    request = registry_service_pb2.ListRunsRequest(filter=run_pb2.RunFilter(labels={"team": "red"}))
    assert not (await registry.registry.ListRuns(request)).runs


async def test_a_star_replaces_all_that_can_be_changed(registry, run):
    changed = await update(registry, run, "*")
    assert (changed.description, changed.notes, dict(changed.labels)) == ("", "", {})


async def test_all_bad_fields_of_an_update_are_named(registry, run):
    run.MergeFrom(run_pb2.Run(notes="x" * 65_537, tags=["a b"], parent="x"))
    failure = await registry.failure_of(
        update(registry, run, "status", "notes", "tags", "parent", "spec.steps")
    )
    assert list(failure.fields) == [
        "update_mask.paths[0]",
        "update_mask.paths[4]",
        "run.notes",
        "run.tags[0]",
        "run.parent",
    ]
    failure = await registry.failure_of(update(registry, run_pb2.Run()))
    assert list(failure.fields) == ["run.name", "update_mask"]


async def test_parents_make_no_cycle(registry, run):
    job = await registry.enqueue()
    child = run_pb2.Run(name=job.name, parent="runs/a")
    assert (await update(registry, child, "parent")).parent == "runs/a"
    for parent in (child.name, "runs/a"):
        failure = await registry.failure_of(
            update(registry, run_pb2.Run(name="runs/a", parent=parent), "parent")
        )
        assert list(failure.fields) == ["run.parent"]


async def test_archived_runs_are_listed_only_when_asked_for(registry, ended):
    other = (await registry.enqueue()).name
    archived = await registry.registry.ArchiveRuns(registry_service_pb2.ArchiveRunsRequest(names=[ended]))
    again = await registry.registry.ArchiveRuns(registry_service_pb2.ArchiveRunsRequest(names=[ended]))
    assert archived.runs[0].HasField("archive_time")
    assert again == archived
    order = run_pb2.RunOrder(metric="train/loss")
    assert await listed(registry) == [other]
    assert await listed(registry, order=order) == [other]
    assert await listed(registry, "ARCHIVED", order=order) == [ended]
    await registry.registry.UnarchiveRuns(registry_service_pb2.UnarchiveRunsRequest(names=[ended]))
    assert await listed(registry, order=order) == [ended, other]
    assert await listed(registry, "ARCHIVED") == []


async def test_deleted_runs_can_be_restored(registry, ended):
    deleted = await registry.registry.DeleteRuns(registry_service_pb2.DeleteRunsRequest(names=[ended]))
    assert deleted.runs[0].HasField("delete_time")
    assert await listed(registry) == []
    assert await listed(registry, "DELETED") == [ended]
    restored = await registry.registry.UndeleteRuns(registry_service_pb2.UndeleteRunsRequest(names=[ended]))
    assert not restored.runs[0].HasField("delete_time")
    assert await listed(registry) == [ended]


async def test_all_runs_are_deleted_or_none(registry, ended):
    opened = (await registry.enqueue()).name
    request = registry_service_pb2.DeleteRunsRequest(names=[ended, opened])
    failure = await registry.failure_of(registry.registry.DeleteRuns(request))
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_OPEN")
    assert await listed(registry) == [opened, ended]
    request = registry_service_pb2.DeleteRunsRequest(names=[ended, "runs/absent"])
    failure = await registry.failure_of(registry.registry.DeleteRuns(request))
    assert failure.reason == "RESOURCE_NOT_FOUND"
    assert await listed(registry) == [opened, ended]


async def test_bad_names_are_all_named(registry):
    request = registry_service_pb2.DeleteRunsRequest(names=["a", "runs/b", "runs/b"])
    failure = await registry.failure_of(registry.registry.DeleteRuns(request))
    assert list(failure.fields) == ["names[0]", "names"]
    failure = await registry.failure_of(
        registry.registry.ArchiveRuns(registry_service_pb2.ArchiveRunsRequest())
    )
    assert list(failure.fields) == ["names"]


async def test_a_deleted_run_is_not_evaluated(registry, ended):
    await registry.registry.DeleteRuns(registry_service_pb2.DeleteRunsRequest(names=[ended]))
    dataset = (await registry.sealed_dataset(40)).name
    job = job_service_pb2.Job(
        name="evaluations/", evaluation=evaluation_pb2.EvaluationSpec(subject=ended, dataset=dataset)
    )
    failure = await registry.failure_of(registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job)))
    assert failure.reason == "RUN_DELETED"
