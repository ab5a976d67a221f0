"""Datasets described, deleted and restored, and what keeps them."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import field_mask_pb2

from tunix_rt.v1 import dataset_pb2, evaluation_pb2, job_service_pb2, registry_service_pb2, run_pb2


async def update(registry, name, paths, **fields):
    return await registry.registry.UpdateDataset(
        registry_service_pb2.UpdateDatasetRequest(
            dataset=dataset_pb2.Dataset(name=name, **fields),
            update_mask=field_mask_pb2.FieldMask(paths=paths),
        )
    )


async def delete(registry, name):
    return await registry.registry.DeleteDataset(registry_service_pb2.DeleteDatasetRequest(name=name))


async def undelete(registry, name):
    return await registry.registry.UndeleteDataset(registry_service_pb2.UndeleteDatasetRequest(name=name))


async def listed(registry, **fields):
    page = await registry.registry.ListDatasets(registry_service_pb2.ListDatasetsRequest(**fields))
    return [dataset.name for dataset in page.datasets]


async def test_description_and_labels_change_and_the_content_does_not(registry):
    before = await registry.sealed_dataset(5)
    made = await update(registry, before.name, ["*"], description="sums", labels={"team": "red", "a": "1"})
    assert (made.description, dict(made.labels)) == ("sums", {"team": "red", "a": "1"})
    made = await update(registry, before.name, ["labels.team", "labels.a"], labels={"team": "blue"})
    assert (made.description, dict(made.labels)) == ("sums", {"team": "blue"})
    assert (made.sha256, made.seal_time) == (before.sha256, before.seal_time)


async def test_a_mask_names_what_people_may_change(registry):
    name = (await registry.sealed_dataset(5)).name
    failure = await registry.failure_of(update(registry, name, ["sha256", "labels."]))
    assert set(failure.fields) == {"update_mask.paths[0]", "update_mask.paths[1]"}
    assert set((await registry.failure_of(update(registry, "x", []))).fields) == {
        "dataset.name",
        "update_mask",
    }


async def test_a_deleted_dataset_is_in_no_list_unless_asked_for_and_comes_back(registry, clock):
    kept, gone = await registry.sealed_dataset(5), await registry.sealed_dataset(6)
    deleted = await delete(registry, gone.name)
    assert deleted.HasField("delete_time")
    assert await delete(registry, gone.name) == deleted
    assert await listed(registry) == [kept.name]
    assert await listed(registry, show_deleted=True) == [gone.name, kept.name]
    assert await undelete(registry, gone.name) == gone
    assert await listed(registry) == [gone.name, kept.name]


async def test_a_deleted_dataset_is_not_used(registry):
    name = (await registry.sealed_dataset(30)).name
    await delete(registry, name)
    failure = await registry.failure_of(registry.enqueue(dataset=name))
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DATASET_DELETED")
    failure = await registry.failure_of(update(registry, name, ["description"], description="x"))
    assert failure.reason == "DATASET_DELETED"


async def test_an_open_dataset_that_is_deleted_takes_no_traces(registry):
    made = await registry.registry.CreateDataset(registry_service_pb2.CreateDatasetRequest())
    await delete(registry, made.name)
    failure = await registry.failure_of(registry.append(made.name, registry.make_traces(1)))
    assert failure.reason == "DATASET_DELETED"


@pytest.fixture
def runs_on():
    """Queues a run that uses a dataset in some role."""

    async def queue(registry, role, name):
        if role == "dataset":
            return await registry.enqueue(dataset=name)
        if role == "mixture":
            return await registry.enqueue(mixture=[run_pb2.MixturePart(dataset=name, weight=1)])
        spec = evaluation_pb2.EvaluationSpec(dataset=name, split="test")
        return await registry.enqueue(evaluate_after=[spec])

    return queue


@pytest.mark.parametrize("role", ["dataset", "mixture", "evaluate_after"])
async def test_what_a_run_uses_is_not_deleted(registry, runs_on, role):
    name = (await registry.sealed_dataset(30)).name
    job = await runs_on(registry, role, name)
    failure = await registry.failure_of(delete(registry, name))
    assert failure.reason == "DATASET_IN_USE"
    assert f"`{job.name}`" in failure.message


async def test_a_dataset_whose_name_begins_another_is_not_used_by_its_users(registry):
    def named(identifier):
        return registry.registry.CreateDataset(
            registry_service_pb2.CreateDatasetRequest(dataset_id=identifier)
        )

    for identifier in ("sums", "sums-b"):
        made = await named(identifier)
        await registry.append(made.name, registry.make_traces(30))
        await registry.registry.SealDataset(registry_service_pb2.SealDatasetRequest(name=made.name))
    await registry.enqueue(dataset="datasets/sums-b")
    assert (await delete(registry, "datasets/sums")).HasField("delete_time")


async def test_an_evaluation_keeps_its_dataset(registry):
    name = (await registry.sealed_dataset(30)).name
    spec = evaluation_pb2.EvaluationSpec(subject=await registry.model(), dataset=name, split="test")
    job = await registry.jobs.EnqueueJob(
        job_service_pb2.EnqueueJobRequest(job=job_service_pb2.Job(name="evaluations/", evaluation=spec))
    )
    failure = await registry.failure_of(delete(registry, name))
    assert f"`{job.name}`" in failure.message


async def test_a_parent_goes_after_its_children(registry):
    parent = (await registry.sealed_dataset(5)).name
    derivation = dataset_pb2.Derivation(method="filter")
    request = registry_service_pb2.CreateDatasetRequest(
        dataset=dataset_pb2.Dataset(parents=[parent], derivation=derivation)
    )
    child = (await registry.registry.CreateDataset(request)).name
    failure = await registry.failure_of(delete(registry, parent))
    assert f"used by `{child}`." in failure.message
    await delete(registry, child)
    assert (await delete(registry, parent)).HasField("delete_time")
    failure = await registry.failure_of(registry.registry.CreateDataset(request))
    assert failure.reason == "DATASET_DELETED"
