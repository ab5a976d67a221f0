"""What a sealed dataset holds, through the API."""

from __future__ import annotations

import psycopg

from tunix_rt.v1 import registry_service_pb2


async def statistics(registry, name):
    request = registry_service_pb2.GetDatasetStatisticsRequest(name=name)
    return await registry.registry.GetDatasetStatistics(request)


async def test_the_statistics_of_a_sealed_dataset(registry):
    dataset = await registry.sealed_dataset(30)
    found = await statistics(registry, dataset.name)
    assert (found.dataset, found.sha256) == (dataset.name, dataset.sha256)
    assert [(each.split, each.trace_count) for each in found.splits] == [
        (split.name, split.trace_count) for split in dataset.splits
    ]
    assert (found.total.trace_count, found.total.steps.max) == (30, 1)
    assert [(each.value, each.count) for each in found.total.answer_types] == [("integer", 30)]
    assert [(each.first_split, each.second_split, each.exact) for each in found.overlaps] == [
        ("train", "test", 0)
    ]


async def test_statistics_are_computed_once(registry):
    dataset = await registry.sealed_dataset(10)
    first = await statistics(registry, dataset.name)
    for path in registry.blobs.rglob("*"):
        if path.is_file():
            path.unlink()
    assert await statistics(registry, dataset.name) == first


async def test_statistics_of_an_older_version_are_computed_again(registry):
    dataset = await registry.sealed_dataset(10)
    first = await statistics(registry, dataset.name)
    with psycopg.connect(registry.database, autocommit=True) as connection:
        connection.execute("UPDATE dataset_statistics SET version = 0, document = ''")
    assert await statistics(registry, dataset.name) == first


async def test_an_open_dataset_has_no_statistics(registry):
    made = await registry.registry.CreateDataset(registry_service_pb2.CreateDatasetRequest())
    failure = await registry.failure_of(statistics(registry, made.name))
    assert failure.reason == "DATASET_NOT_SEALED"
