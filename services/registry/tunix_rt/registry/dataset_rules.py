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
MAX_PARENTS = 20
METHODS = ("filter", "subset", "merge", "mixture")
_MAX_SPLITS = 20
_OUTPUT_ONLY = (
    *("name", "state", "trace_count", "sha256", "size_bytes", "create_time", "seal_time", "delete_time"),
)


def create_violations(request: registry_service_pb2.CreateDatasetRequest) -> list[Violation]:
    """Everything that is wrong with a new dataset."""
    dataset = request.dataset
    found = [
        names.check_id(request.dataset_id, "dataset_id"),
        requests.check_request_id(request.request_id),
    ]
    given = {descriptor.name for descriptor, _ in dataset.ListFields()}
    for field in _OUTPUT_ONLY:
        if field in given:
            found.append(Violation(f"dataset.{field}", "is output only; leave it out."))
    if dataset.ByteSize() > MAX_DOCUMENT_BYTES:
        text = f"has {dataset.ByteSize()} bytes without its traces; at most {MAX_DOCUMENT_BYTES} are kept."
        found.append(Violation("dataset", text))
    if dataset.source.size < 0:
        found.append(Violation("dataset.source.size", f"is {dataset.source.size}; it must not be negative."))
    return [each for each in found if each] + _split_violations(dataset) + _parent_violations(dataset)


def _parent_violations(dataset: dataset_pb2.Dataset) -> list[Violation]:
    found = [
        names.check(parent, names.DATASET, f"dataset.parents[{index}]")
        for index, parent in enumerate(dataset.parents[: MAX_PARENTS + 1])
    ]
    if len(dataset.parents) > MAX_PARENTS:
        found.append(Violation("dataset.parents", f"are {len(dataset.parents)}; at most {MAX_PARENTS}."))
    if len(set(dataset.parents)) < len(dataset.parents):
        found.append(Violation("dataset.parents", "name one twice; name each once."))
    method = dataset.derivation.method
    if dataset.parents and method not in METHODS:
        text = f"is `{method[:80]}`; it must say how the traces come from the parents: {', '.join(METHODS)}."
        found.append(Violation("dataset.derivation.method", text))
    if method in ("filter", "subset") and len(dataset.parents) > 1:
        text = f"is `{method}`, of one parent; of {len(dataset.parents)} it is `merge` or `mixture`."
        found.append(Violation("dataset.derivation.method", text))
    if dataset.HasField("derivation") and not dataset.parents:
        found.append(Violation("dataset.derivation", "says how traces come from parents; give `parents`."))
    return [each for each in found if each]


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
        if dataset.given_splits and split.fraction:
            text = f"is {split.fraction:g}; with `given_splits` the traces decide it. Leave it out."
            found.append(Violation(f"{field}.fraction", text))
        elif not dataset.given_splits and not 0 < split.fraction <= 1:
            text = f"is {split.fraction:g}; it must be more than 0 and at most 1."
            found.append(Violation(f"{field}.fraction", text))
        if split.trace_count:
            found.append(Violation(f"{field}.trace_count", "is output only; leave it out."))
    if dataset.given_splits:
        if not dataset.splits:
            found.append(Violation("dataset.splits", "are required with `given_splits`; name them all."))
        if dataset.split_seed:
            found.append(Violation("dataset.split_seed", "has no use with `given_splits`; leave it out."))
    elif dataset.splits and not found:
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
