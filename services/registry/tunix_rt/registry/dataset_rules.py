"""What a dataset and a batch of its traces must be like."""

from __future__ import annotations

from tunix_rt.registry import requests
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, Reason, ResourceExhausted, Violation
from tunix_rt.traces.splits import check_fractions
from tunix_rt.traces.trace import TraceError
from tunix_rt.v1 import dataset_pb2, registry_service_pb2

MAX_BATCH_TRACES = 1000
MAX_BATCH_BYTES = 4 * 1024 * 1024
MAX_DOCUMENT_BYTES = 256 * 1024
_MAX_SPLITS = 20


def create_violations(request: registry_service_pb2.CreateDatasetRequest) -> list[Violation]:
    """Everything that is wrong with a new dataset."""
    dataset = request.dataset
    found = [
        names.check_id(request.dataset_id, "dataset_id"),
        requests.check_request_id(request.request_id),
    ]
    for field in ("name", "state", "trace_count", "sha256", "size_bytes", "create_time", "seal_time"):
        if any(descriptor.name == field for descriptor, _ in dataset.ListFields()):
            found.append(Violation(f"dataset.{field}", "is output only; leave it out."))
    if dataset.ByteSize() > MAX_DOCUMENT_BYTES:
        text = f"has {dataset.ByteSize()} bytes without its traces; at most {MAX_DOCUMENT_BYTES} are kept."
        found.append(Violation("dataset", text))
    if dataset.source.size < 0:
        found.append(Violation("dataset.source.size", f"is {dataset.source.size}; it must not be negative."))
    return [each for each in found if each] + _split_violations(dataset)


def _split_violations(dataset: dataset_pb2.Dataset) -> list[Violation]:
    found: list[Violation] = []
    if len(dataset.splits) > _MAX_SPLITS:
        found.append(Violation("dataset.splits", f"are {len(dataset.splits)}; at most {_MAX_SPLITS}."))
    seen: dict[str, int] = {}
    for index, split in enumerate(dataset.splits[: _MAX_SPLITS + 1]):
        field = f"dataset.splits[{index}]"
        if not split.name:
            found.append(Violation(f"{field}.name", "is required, such as `train`."))
        elif bad := names.check_id(split.name, f"{field}.name"):
            found.append(bad)
        elif split.name in seen:
            text = f"is `{split.name}`, as in dataset.splits[{seen[split.name]}]; names must differ."
            found.append(Violation(f"{field}.name", text))
        seen.setdefault(split.name, index)
        if not 0 < split.fraction <= 1:
            text = f"is {split.fraction:g}; it must be more than 0 and at most 1."
            found.append(Violation(f"{field}.fraction", text))
        if split.trace_count:
            found.append(Violation(f"{field}.trace_count", "is output only; leave it out."))
    if dataset.splits and not found:
        try:
            check_fractions({split.name: split.fraction for split in dataset.splits}, "dataset.splits")
        except TraceError as error:
            found += [Violation(each.path, each.message) for each in error.violations]
    return found


def check_batch(offset: int, count: int, size_bytes: int) -> None:
    """Raises ResourceExhausted if a batch of traces is too large, InvalidArgument for a negative offset."""
    if offset < 0:
        raise InvalidArgument.of("offset", f"is {offset}; it must not be negative.")
    for what, value, limit in (("traces", count, MAX_BATCH_TRACES), ("bytes", size_bytes, MAX_BATCH_BYTES)):
        if value > limit:
            raise ResourceExhausted(
                Reason.LIMIT_EXCEEDED,
                f"The message has {value} {what}; at most {limit} fit. Send smaller batches.",
                {"limit": limit, "value": value, "unit": what},
            )
