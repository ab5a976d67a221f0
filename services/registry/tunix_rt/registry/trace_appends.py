"""Traces that are appended to an open dataset, a batch whole or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunix_rt.registry import dataset_rules, datasets
from tunix_rt.registry.database import Transaction
from tunix_rt.registry.trace_records import BatchPlace, Records, TraceRecord, make_records
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, OutOfRange, Reason, Violation
from tunix_rt.v1 import dataset_pb2


async def append(
    tx: Transaction, name: str, offset: int, traces: Sequence[dataset_pb2.Trace], *, size_bytes: int
) -> int:
    """Stores a batch whole or not at all, and returns the number of traces in the dataset.

    Traces before the end of the dataset are stored already and left as they are. Raises InvalidArgument,
    reason TRACES_INVALID, with every fault of the batch.
    """
    dataset_rules.check_batch(offset, len(traces), size_bytes)
    dataset = await datasets.lock(tx, name)
    committed = dataset.trace_count
    if offset > committed:
        raise OutOfRange(
            Reason.STREAM_GAP,
            f"offset is {offset}, but `{name}` has {committed} traces. Go on at {committed}.",
            {"resource": name, "offset": offset, "committed": committed},
        )
    if offset + len(traces) <= committed:
        return committed
    _require_open(dataset)
    fresh = make_records(traces[committed - offset :], BatchPlace.of(dataset, first_index=committed - offset))
    records = list(fresh.by_index.values())
    if fresh.violations or await _insert(tx, name, records, committed) < len(records):
        violations = fresh.violations + await _twins(tx, name, fresh, offset=offset, committed=committed)
        raise InvalidArgument(violations, Reason.TRACES_INVALID)
    counts = Counter(record.split for record in records)
    for split in dataset.splits:
        split.trace_count += counts[split.name]
    dataset.trace_count += len(records)
    await datasets.save(tx, dataset)
    return dataset.trace_count


def _require_open(dataset: dataset_pb2.Dataset) -> None:
    datasets.require_kept(dataset)
    if dataset.state == dataset_pb2.Dataset.SEALED:
        raise FailedPrecondition(
            Reason.DATASET_SEALED,
            f"Dataset `{dataset.name}` is sealed and never changes. Create another one.",
            {"resource": dataset.name},
        )


async def _twins(
    tx: Transaction, name: str, fresh: Records, *, offset: int, committed: int
) -> list[Violation]:
    """The traces whose id or content is in the dataset, or in the batch before them."""
    stored = await tx.all(
        "SELECT position, trace_id, content FROM traces WHERE dataset = %(name)s"
        " AND (trace_id = ANY(%(ids)s::text[]) OR content = ANY(%(contents)b::bytea[]))"
        " AND position < %(committed)s",
        name=name,
        committed=committed,
        ids=[record.trace_id for record in fresh.by_index.values()],
        contents=[record.content for record in fresh.by_index.values()],
    )
    ids = {row["trace_id"]: row["position"] for row in stored}
    contents = {row["content"]: row["position"] for row in stored}
    violations = []
    for index, record in fresh.by_index.items():
        position, field = offset + index, f"traces[{index}]"
        if record.trace_id in ids:
            text = (
                f"is `{record.trace_id}` at position {position} and at position {ids[record.trace_id]};"
                " ids must differ. Give traces of one prompt ids of their own."
            )
            violations.append(Violation(f"{field}.id", text))
        elif record.content in contents:
            text = f"has the content at position {position} that position {contents[record.content]} has."
            violations.append(Violation(field, text + " Leave one of them out."))
        ids.setdefault(record.trace_id, position)
        contents.setdefault(record.content, position)
    return violations


async def _insert(tx: Transaction, name: str, records: Sequence[TraceRecord], first: int) -> int:
    """Inserts records unless their id or content is there, and returns how many it has inserted."""
    return await tx.execute(
        "INSERT INTO traces (dataset, position, trace_id, content, split, record)"
        " SELECT %(name)s, %(first)s + number - 1, trace_id, content, split, record FROM unnest("
        "%(ids)s::text[], %(contents)b::bytea[], %(splits)s::text[], %(records)b::bytea[])"
        " WITH ORDINALITY AS t (trace_id, content, split, record, number) ON CONFLICT DO NOTHING",
        name=name,
        first=first,
        ids=[record.trace_id for record in records],
        contents=[record.content for record in records],
        splits=[record.split for record in records],
        records=[record.record for record in records],
    )
