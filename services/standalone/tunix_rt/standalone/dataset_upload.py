"""Creates a dataset from traces and seals it; run again after an interruption, it goes on."""

from __future__ import annotations

import hashlib
import queue
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunix_rt.standalone.connection import CALL_SECONDS, LONG_CALL_SECONDS, Connection
from tunix_rt.standalone.failures import CommandError
from tunix_rt.standalone.structs import struct_of
from tunix_rt.standalone.transfers import Advance
from tunix_rt.traces.trace import Trace, canonical_json, plain_json
from tunix_rt.v1 import dataset_pb2 as dataset_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb

if TYPE_CHECKING:
    from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub

BATCH_TRACES = 500
BATCH_BYTES = 2 * 1024 * 1024
_NAMESPACE = uuid.UUID("8f1e9a42-9f0b-4f5c-8a1e-6b8f1c1f5a77")


@dataclass(frozen=True)
class DatasetPlan:
    """A dataset to create: its id, what it says about itself, and its traces."""

    dataset_id: str
    dataset: dataset_pb.Dataset
    traces: Sequence[Trace]


def source_of(
    generator: str, *, seed: int = 0, size: int = 0, config: dict[str, object] | None = None
) -> dataset_pb.DatasetSource:
    """The source of a dataset, as it stands in the registry."""
    source = dataset_pb.DatasetSource(generator=generator, seed=seed, size=size)
    if config:
        source.config.CopyFrom(struct_of(config))
    return source


def upload_dataset(
    connection: Connection, plan: DatasetPlan, *, advance: Advance = lambda _: None
) -> dataset_pb.Dataset:
    """Creates the dataset, appends the traces that are not stored yet, and seals it.

    The same plan again continues where it stopped, or returns the sealed dataset; another plan under
    the same id is refused by the registry with ALREADY_EXISTS. `advance` hears of the traces stored.
    """
    registry = connection.registry
    request = registry_pb.CreateDatasetRequest(dataset_id=plan.dataset_id, dataset=plan.dataset)
    request.request_id = _request_id(plan)
    dataset = registry.CreateDataset(request, timeout=CALL_SECONDS)
    if dataset.state == dataset_pb.Dataset.SEALED:
        advance(len(plan.traces))
        return dataset
    _append(registry, dataset.name, [trace_message(trace) for trace in plan.traces], advance)
    return registry.SealDataset(registry_pb.SealDatasetRequest(name=dataset.name), timeout=LONG_CALL_SECONDS)


def trace_message(trace: Trace) -> dataset_pb.Trace:
    """The message of a trace."""
    message = dataset_pb.Trace(
        id=trace.id,
        prompt=trace.prompt,
        steps=[dataset_pb.Step(type=step.type, content=step.content) for step in trace.steps],
        final_answer=trace.final_answer,
        answer_type=trace.answer_type,
        aliases=trace.aliases,
        completion=trace.completion,
        messages=[dataset_pb.ChatMessage(role=turn.role, content=turn.content) for turn in trace.messages],
    )
    if trace.meta:
        meta = plain_json(trace.meta)
        assert isinstance(meta, dict)
        message.meta.CopyFrom(struct_of(meta))
    return message


def _append(
    registry: RegistryServiceStub, name: str, traces: Sequence[dataset_pb.Trace], advance: Advance
) -> None:
    """Streams the traces from where the registry is; each batch waits for its acknowledgement."""
    acknowledged: queue.SimpleQueue[int] = queue.SimpleQueue()
    requests = _append_requests(name, traces, acknowledged)
    committed = 0
    for response in registry.AppendTraces(requests, timeout=LONG_CALL_SECONDS):
        advance(response.committed - committed)
        committed = response.committed
        acknowledged.put(committed)
    if committed != len(traces):
        message = f"{name} has {committed} traces, not {len(traces)}; it is not sealed. Choose another id."
        raise CommandError("UPLOAD_INCOMPLETE", message)


def _append_requests(
    name: str, traces: Sequence[dataset_pb.Trace], acknowledged: queue.SimpleQueue[int]
) -> Iterator[registry_pb.AppendTracesRequest]:
    yield registry_pb.AppendTracesRequest(dataset=name)
    position = acknowledged.get(timeout=LONG_CALL_SECONDS)
    while position < len(traces):
        batch = _batch(traces, position)
        yield registry_pb.AppendTracesRequest(offset=position, traces=batch)
        position = acknowledged.get(timeout=LONG_CALL_SECONDS)


def _batch(traces: Sequence[dataset_pb.Trace], start: int) -> list[dataset_pb.Trace]:
    batch: list[dataset_pb.Trace] = []
    size = 0
    for trace in traces[start : start + BATCH_TRACES]:
        size += trace.ByteSize()
        if batch and size > BATCH_BYTES:
            break
        batch.append(trace)
    return batch


def _request_id(plan: DatasetPlan) -> str:
    """A request id that is the same for the same plan, so that a repeated command continues."""
    digest = hashlib.sha256(plan.dataset_id.encode())
    digest.update(plan.dataset.SerializeToString(deterministic=True))
    for trace in plan.traces:
        digest.update(canonical_json(trace, ""))
    return str(uuid.uuid5(_NAMESPACE, digest.hexdigest()))
