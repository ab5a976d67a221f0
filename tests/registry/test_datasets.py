"""Datasets through the API: created, filled, sealed."""

from __future__ import annotations

import hashlib
import json
import uuid

import grpc
import pytest

from tunix_rt.traces.jsonl import read_canonical
from tunix_rt.v1 import dataset_pb2, registry_service_pb2


async def create(registry, **fields):
    return await registry.registry.CreateDataset(
        registry_service_pb2.CreateDatasetRequest(dataset=dataset_pb2.Dataset(**fields))
    )


async def seal(registry, name, expected=""):
    return await registry.registry.SealDataset(
        registry_service_pb2.SealDatasetRequest(name=name, expected_sha256=expected)
    )


async def read_blob(registry, sha256, offset=0):
    request = registry_service_pb2.ReadBlobRequest(sha256=sha256, offset=offset)
    return b"".join([response.data async for response in registry.registry.ReadBlob(request)])


async def list_traces(registry, name, **fields):
    request = registry_service_pb2.ListTracesRequest(dataset=name, **fields)
    return await registry.registry.ListTraces(request)


async def test_a_sealed_dataset_is_its_canonical_jsonl(registry):
    dataset = await registry.sealed_dataset(30)
    data = await read_blob(registry, dataset.sha256)
    assert hashlib.sha256(data).hexdigest() == dataset.sha256
    assert len(data) == dataset.size_bytes
    rows = read_canonical(data.splitlines())
    assert [trace.id for trace, _ in rows] == [f"t{i}" for i in range(30)]
    assert sum(split.trace_count for split in dataset.splits) == dataset.trace_count == 30
    listed = (await list_traces(registry, dataset.name)).traces
    assert [trace.split for trace in listed] == [split for _, split in rows]
    assert {trace.split for trace in listed} == {"train", "test"}


async def test_the_same_traces_give_the_same_bytes_however_they_are_sent(registry):
    whole = await registry.sealed_dataset(20)
    other = await create(
        registry, splits=[dataset_pb2.Split(name=s.name, fraction=s.fraction) for s in whole.splits]
    )
    traces = registry.make_traces(20)
    for first in range(0, 20, 7):
        await registry.append(other.name, traces[first : first + 7], first)
    assert (await seal(registry, other.name, whole.sha256)).sha256 == whole.sha256


async def test_defaults_are_filled_in(registry):
    made = await create(registry)
    assert made.state == dataset_pb2.Dataset.OPEN
    assert [(s.name, s.fraction) for s in made.splits] == [("train", 0.8), ("validation", 0.1), ("test", 0.1)]
    assert made.source.generator == "upload"


async def test_appending_goes_on_where_it_was_and_repeats_are_harmless(registry):
    name = (await create(registry)).name
    traces = registry.make_traces(10)
    assert await registry.append(name, traces[:6]) == [0, 6]
    assert await registry.append(name, traces[:6]) == [6, 6]
    assert await registry.append(name, traces[4:], 4) == [6, 10]
    failure = await registry.failure_of(registry.append(name, traces, 11))
    assert (failure.code, failure.reason) == (grpc.StatusCode.OUT_OF_RANGE, "STREAM_GAP")
    assert len((await list_traces(registry, name)).traces) == 10


async def test_a_batch_with_a_bad_trace_stores_nothing_and_names_every_fault(registry):
    name = (await create(registry)).name
    traces = registry.make_traces(4)
    traces[1].prompt = " "
    traces[2].steps[0].type = ""
    traces[3].answer_type = "nonsense"
    traces[3].split = "train"
    failure = await registry.failure_of(registry.append(name, traces))
    assert failure.reason == "TRACES_INVALID"
    assert {"traces[1].prompt", "traces[2].steps[0].type", "traces[3].split"} <= set(failure.fields)
    dataset = await registry.registry.GetDataset(registry_service_pb2.GetDatasetRequest(name=name))
    assert dataset.trace_count == 0


async def test_ids_and_contents_are_there_once(registry):
    name = (await create(registry)).name
    traces = registry.make_traces(3)
    await registry.append(name, traces)
    again = registry.make_traces(1, first=7)
    again[0].id = "t1"
    failure = await registry.failure_of(registry.append(name, again, 3))
    assert "position 3" in failure.fields["traces[0].id"]
    assert "position 1" in failure.fields["traces[0].id"]
    copy = registry.make_traces(1)
    copy[0].id = "another"
    failure = await registry.failure_of(registry.append(name, copy, 3))
    assert "position 0" in failure.fields["traces[0]"]


async def test_a_trace_without_id_is_named_by_its_content(registry):
    name = (await create(registry)).name
    trace = registry.make_traces(1)[0]
    trace.id = ""
    await registry.append(name, [trace])
    digest = hashlib.sha256(b"what is 0 + 0?").hexdigest()
    assert (await list_traces(registry, name)).traces[0].id == digest[:16]


async def test_metadata_and_odd_text_come_back_as_they_were(registry):
    name = (await create(registry)).name
    trace = registry.make_traces(1)[0]
    trace.prompt = "NUL \0, tab \t, emoji 🎈?"
    trace.aliases.append("zero")
    trace.meta.update({"family": "sums", "level": 3, "share": 0.5, "deep": {"list": [1, None, True]}})
    await registry.append(name, [trace])
    (read,) = (await list_traces(registry, name)).traces
    read.split = ""
    assert read == trace


async def test_limits_are_on_real_bytes(registry):
    name = (await create(registry)).name
    many = registry.make_traces(1001)
    failure = await registry.failure_of(registry.append(name, many))
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    long = registry.make_traces(1)
    long[0].prompt = "x" * (1 << 20)
    failure = await registry.failure_of(registry.append(name, long))
    assert list(failure.fields) == ["traces[0]"]
    large = registry.make_traces(5)
    for trace in large:
        trace.steps[0].content = "x" * 900_000
    failure = await registry.failure_of(registry.append(name, large))
    assert failure.reason == "LIMIT_EXCEEDED"


async def test_a_sealed_dataset_takes_no_more_traces_and_seals_again_as_it_is(registry):
    dataset = await registry.sealed_dataset(5)
    failure = await registry.failure_of(registry.append(dataset.name, registry.make_traces(1, 9), 5))
    assert failure.reason == "DATASET_SEALED"
    assert await registry.append(dataset.name, registry.make_traces(5)) == [5, 5]
    assert await seal(registry, dataset.name) == dataset
    failure = await registry.failure_of(seal(registry, dataset.name, "0" * 64))
    assert failure.reason == "DATASET_DIGEST_MISMATCH"


async def test_sealing_fails_where_it_must(registry):
    name = (await create(registry)).name
    assert (await registry.failure_of(seal(registry, name))).reason == "DATASET_EMPTY"
    await registry.append(name, registry.make_traces(1))
    assert (await registry.failure_of(seal(registry, name, "0" * 64))).reason == "DATASET_DIGEST_MISMATCH"
    dataset = await registry.registry.GetDataset(registry_service_pb2.GetDatasetRequest(name=name))
    assert dataset.state == dataset_pb2.Dataset.OPEN
    assert (await registry.failure_of(seal(registry, "datasets/none"))).code == grpc.StatusCode.NOT_FOUND
    assert list((await registry.failure_of(seal(registry, "../etc/passwd"))).fields) == ["name"]


async def test_all_bad_fields_of_a_create_are_reported_together(registry):
    request = registry_service_pb2.CreateDatasetRequest(
        dataset_id="No Good",
        request_id="42",
        dataset=dataset_pb2.Dataset(
            name="datasets/x",
            sha256="0" * 64,
            splits=[
                dataset_pb2.Split(name="train", fraction=0.5, trace_count=3),
                dataset_pb2.Split(name="train", fraction=-1),
            ],
        ),
    )
    failure = await registry.failure_of(registry.registry.CreateDataset(request))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert set(failure.fields) == {
        "dataset_id",
        "request_id",
        "dataset.name",
        "dataset.sha256",
        "dataset.splits[0].trace_count",
        "dataset.splits[1].name",
        "dataset.splits[1].fraction",
    }


@pytest.mark.parametrize("fractions", [(0.5, 0.4), (0.9, 0.2)])
async def test_fractions_must_sum_to_one(registry, fractions):
    splits = [dataset_pb2.Split(name=f"s{i}", fraction=f) for i, f in enumerate(fractions)]
    failure = await registry.failure_of(create(registry, splits=splits))
    assert list(failure.fields) == ["dataset.splits"]


async def test_creates_are_idempotent_by_request_id_and_ids_are_taken_once(registry):
    request = registry_service_pb2.CreateDatasetRequest(dataset_id="mine", request_id=str(uuid.uuid4()))
    request.dataset.labels.update({"a": "1", "b": "2"})
    made = await registry.registry.CreateDataset(request)
    await registry.append(made.name, registry.make_traces(2))
    again = await registry.registry.CreateDataset(request)
    assert (again.name, again.trace_count) == ("datasets/mine", 2)
    request.dataset.labels["b"] = "3"
    failure = await registry.failure_of(registry.registry.CreateDataset(request))
    assert failure.reason == "REQUEST_ID_REUSED"
    request.request_id = str(uuid.uuid4())
    failure = await registry.failure_of(registry.registry.CreateDataset(request))
    assert failure.reason == "RESOURCE_EXISTS"


async def test_traces_of_one_split_are_listed_by_pages(registry):
    dataset = await registry.sealed_dataset(40)
    count = next(split.trace_count for split in dataset.splits if split.name == "test")
    found, token = [], ""
    while True:
        page = await list_traces(registry, dataset.name, split="test", page_size=3, page_token=token)
        found += page.traces
        token = page.next_page_token
        if not token:
            break
    assert len(found) == count == len({trace.id for trace in found})
    assert {trace.split for trace in found} == {"test"}
    failure = await registry.failure_of(list_traces(registry, dataset.name, split="none"))
    assert list(failure.fields) == ["split"]


async def test_a_page_of_large_traces_is_bounded_in_bytes(registry):
    name = (await create(registry)).name
    for first in range(0, 12, 4):
        traces = registry.make_traces(4, first)
        for trace in traces:
            trace.steps[0].content = "x" * 900_000
        await registry.append(name, traces, first)
    sizes, token = [], ""
    while True:
        page = await list_traces(registry, name, page_size=100, page_token=token)
        sizes.append(len(page.traces))
        token = page.next_page_token
        if not token:
            break
    assert sizes == [5, 5, 2]


async def test_records_are_canonical_json_lines(registry):
    dataset = await registry.sealed_dataset(3)
    lines = (await read_blob(registry, dataset.sha256)).splitlines()
    assert [list(json.loads(line)) == sorted(json.loads(line)) for line in lines] == [True] * 3
