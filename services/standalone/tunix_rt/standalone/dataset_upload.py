"""Creates a dataset from traces and seals it; run again after an interruption, it goes on."""

from __future__ import annotations

import hashlib
import queue
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import grpc

from tunix_rt.rpc.status import code_of, status_of
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
BATCHES_AHEAD = 4
_REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
_NAMESPACE = uuid.UUID("8f1e9a42-9f0b-4f5c-8a1e-6b8f1c1f5a77")


@dataclass(frozen=True)
class DatasetPlan:
    """A dataset to create: its id, what it says about itself, its traces, and their splits if given."""

    dataset_id: str
    dataset: dataset_pb.Dataset
    traces: Sequence[Trace]
    splits: Sequence[str] = ()

    def rows(self, start: int = 0) -> Iterator[tuple[Trace, str]]:
        """The traces from a position on, with their splits, which are empty where the content decides."""
        for position in range(start, len(self.traces)):
            yield self.traces[position], self.splits[position] if self.splits else ""


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
    the same id is refused by the registry with ALREADY_EXISTS. A dataset whose traces are refused is
    deleted: it could never be sealed. `advance` hears of the traces stored.
    """
    registry = connection.registry
    request = registry_pb.CreateDatasetRequest(dataset_id=plan.dataset_id, dataset=plan.dataset)
    request.request_id = _request_id(plan)
    dataset = registry.CreateDataset(request, timeout=CALL_SECONDS)
    if dataset.state == dataset_pb.Dataset.SEALED:
        advance(len(plan.traces))
        return dataset
    try:
        _append(registry, dataset.name, plan, advance)
        seal = registry_pb.SealDatasetRequest(name=dataset.name)
        return registry.SealDataset(seal, timeout=LONG_CALL_SECONDS)
    except grpc.RpcError as error:
        if code_of(status_of(error)) in _REFUSED:
            delete = registry_pb.DeleteDatasetRequest(name=dataset.name)
            registry.DeleteDataset(delete, timeout=CALL_SECONDS)
        raise


def trace_message(trace: Trace, split: str = "") -> dataset_pb.Trace:
    """The message of a trace, with the split that it is given, if any."""
    message = dataset_pb.Trace(
        id=trace.id,
        prompt=trace.prompt,
        steps=[dataset_pb.Step(type=step.type, content=step.content) for step in trace.steps],
        final_answer=trace.final_answer,
        answer_type=trace.answer_type,
        aliases=trace.aliases,
        completion=trace.completion,
        split=split,
        messages=[dataset_pb.ChatMessage(role=turn.role, content=turn.content) for turn in trace.messages],
    )
    if trace.meta:
        meta = plain_json(trace.meta)
        assert isinstance(meta, dict)
        message.meta.CopyFrom(struct_of(meta))
    return message


def _append(registry: RegistryServiceStub, name: str, plan: DatasetPlan, advance: Advance) -> None:
    """Streams the traces from where the registry is, with at most BATCHES_AHEAD unacknowledged batches."""
    acknowledged: queue.SimpleQueue[int] = queue.SimpleQueue()
    requests = _append_requests(name, plan, acknowledged)
    committed = 0
    for response in registry.AppendTraces(requests, timeout=LONG_CALL_SECONDS):
        advance(response.committed - committed)
        committed = response.committed
        acknowledged.put(committed)
    if committed != len(plan.traces):
        message = (
            f"{name} has {committed} traces, not {len(plan.traces)}; it is not sealed. Choose another id."
        )
        raise CommandError("UPLOAD_INCOMPLETE", message)


def _append_requests(
    name: str, plan: DatasetPlan, acknowledged: queue.SimpleQueue[int]
) -> Iterator[registry_pb.AppendTracesRequest]:
    yield registry_pb.AppendTracesRequest(dataset=name)
    position = acknowledged.get(timeout=LONG_CALL_SECONDS)
    ahead = 0
    while position < len(plan.traces):
        batch = _batch(plan, position)
        yield registry_pb.AppendTracesRequest(offset=position, traces=batch)
        position += len(batch)
        ahead += 1
        if ahead == BATCHES_AHEAD:
            acknowledged.get(timeout=LONG_CALL_SECONDS)
            ahead -= 1


def _batch(plan: DatasetPlan, start: int) -> list[dataset_pb.Trace]:
    batch: list[dataset_pb.Trace] = []
    size = 0
    for trace, split in islice(plan.rows(start), BATCH_TRACES):
        message = trace_message(trace, split)
        size += message.ByteSize()
        if batch and size > BATCH_BYTES:
            break
        batch.append(message)
    return batch


def _request_id(plan: DatasetPlan) -> str:
    """A request id that is the same for the same plan, so that a repeated command continues."""
    digest = hashlib.sha256(plan.dataset_id.encode())
    digest.update(plan.dataset.SerializeToString(deterministic=True))
    for trace, split in plan.rows():
        digest.update(canonical_json(trace, split))
    return str(uuid.uuid5(_NAMESPACE, digest.hexdigest()))
