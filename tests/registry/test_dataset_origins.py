"""Datasets that come from others, and splits that their traces bring along."""

from __future__ import annotations

import grpc

from tunix_rt.v1 import dataset_pb2, registry_service_pb2


async def create(registry, **fields):
    return await registry.registry.CreateDataset(
        registry_service_pb2.CreateDatasetRequest(dataset=dataset_pb2.Dataset(**fields))
    )


async def seal(registry, name):
    return await registry.registry.SealDataset(registry_service_pb2.SealDatasetRequest(name=name))


def splits(*names):
    return [dataset_pb2.Split(name=name) for name in names]


def method(name):
    return dataset_pb2.Derivation(method=name)


async def test_a_filter_of_a_sealed_dataset_names_it(registry):
    parent = await registry.sealed_dataset(10)
    made = await create(registry, parents=[parent.name], derivation=method("filter"))
    await registry.append(made.name, registry.make_traces(4, first=3))
    sealed = await seal(registry, made.name)
    assert list(sealed.parents) == [parent.name]
    assert sealed.source.generator == "derived"


async def test_traces_of_no_parent_keep_a_derived_dataset_open(registry):
    parent = await registry.sealed_dataset(10)
    made = await create(registry, parents=[parent.name], derivation=method("subset"))
    await registry.append(made.name, registry.make_traces(4, first=8))
    failure = await registry.failure_of(seal(registry, made.name))
    assert failure.reason == "DATASET_NOT_DERIVED"
    assert "2 traces that are in none of its parents, such as `t10`, `t11`" in failure.message
    stored = await registry.registry.GetDataset(registry_service_pb2.GetDatasetRequest(name=made.name))
    assert stored.state == dataset_pb2.Dataset.OPEN


async def test_another_id_and_other_metadata_are_still_a_trace_of_the_parent(registry):
    parent = await registry.sealed_dataset(3)
    made = await create(registry, parents=[parent.name], derivation=method("subset"))
    trace = registry.make_traces(1)[0]
    trace.id = "renamed"
    trace.meta.update({"from": "t0"})
    await registry.append(made.name, [trace])
    assert (await seal(registry, made.name)).trace_count == 1


async def test_parents_are_sealed_and_exist(registry):
    open_one = await create(registry)
    failure = await registry.failure_of(
        create(registry, parents=[open_one.name], derivation=method("filter"))
    )
    assert failure.reason == "DATASET_NOT_SEALED"
    failure = await registry.failure_of(
        create(registry, parents=["datasets/none"], derivation=method("filter"))
    )
    assert failure.code == grpc.StatusCode.NOT_FOUND


async def test_all_that_is_wrong_with_an_origin_is_told_together(registry):
    failure = await registry.failure_of(
        create(registry, parents=["runs/x", "datasets/a", "datasets/a"], derivation=method("magic"))
    )
    assert set(failure.fields) == {"dataset.parents[0]", "dataset.parents", "dataset.derivation.method"}
    failure = await registry.failure_of(create(registry, derivation=method("filter")))
    assert set(failure.fields) == {"dataset.derivation"}
    parents = ["datasets/a", "datasets/b"]
    failure = await registry.failure_of(create(registry, parents=parents, derivation=method("filter")))
    assert set(failure.fields) == {"dataset.derivation.method"}


async def test_given_splits_are_kept_and_their_shares_are_those_of_the_traces(registry):
    made = await create(registry, given_splits=True, splits=splits("train", "hard", "easy"))
    traces = registry.make_traces(4)
    for trace, split in zip(traces, ("train", "hard", "train", "train"), strict=True):
        trace.split = split
    await registry.append(made.name, traces)
    sealed = await seal(registry, made.name)
    assert [(s.name, s.trace_count, s.fraction) for s in sealed.splits] == [
        ("train", 3, 0.75),
        ("hard", 1, 0.25),
        ("easy", 0, 0.0),
    ]
    request = registry_service_pb2.ListTracesRequest(dataset=made.name, split="hard")
    assert [trace.id for trace in (await registry.registry.ListTraces(request)).traces] == ["t1"]


async def test_a_trace_names_one_of_the_given_splits(registry):
    made = await create(registry, given_splits=True, splits=splits("train", "test"))
    traces = registry.make_traces(3)
    traces[0].split = "train"
    traces[1].split = "dev"
    failure = await registry.failure_of(registry.append(made.name, traces))
    assert failure.fields == {
        "traces[1].split": "is `dev`; it must be one of train, test.",
        "traces[2].split": "is ``; it must be one of train, test.",
    }


async def test_given_splits_have_names_and_no_shares(registry):
    failure = await registry.failure_of(create(registry, given_splits=True, split_seed=3))
    assert set(failure.fields) == {"dataset.splits", "dataset.split_seed"}
    share = [dataset_pb2.Split(name="train", fraction=1)]
    failure = await registry.failure_of(create(registry, given_splits=True, splits=share))
    assert set(failure.fields) == {"dataset.splits[0].fraction"}


async def test_faults_and_twins_of_a_batch_are_told_together(registry):
    made = await create(registry)
    await registry.append(made.name, registry.make_traces(2))
    batch = registry.make_traces(3, first=1)
    batch[1].prompt = ""
    failure = await registry.failure_of(registry.append(made.name, batch, 2))
    assert set(failure.fields) == {"traces[0].id", "traces[1].prompt"}
    assert "position 2 and at position 1" in failure.fields["traces[0].id"]


async def test_of_very_many_faults_the_others_are_counted(registry):
    made = await create(registry)
    batch = registry.make_traces(900)
    for trace in batch:
        trace.prompt = ""
    failure = await registry.failure_of(registry.append(made.name, batch))
    shown = len(failure.fields) - 1
    assert failure.fields["…"].startswith(f"and {900 - shown} more bad fields")
