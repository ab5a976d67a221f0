"""Datasets: created open, filled with traces, sealed for ever."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tunix_rt.blobs.blobs import Blob, Blobs
from tunix_rt.registry import dataset_rules, deletion, requests, stored_files
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.messages import timestamp
from tunix_rt.registry.paging import cut, newest_first, within_bytes
from tunix_rt.registry.trace_records import TraceRecord, make_records, to_message
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Reason,
    Violation,
)
from tunix_rt.rpc.pages import decode_token, encode_token, page_size
from tunix_rt.v1 import dataset_pb2, registry_service_pb2

_DEFAULT_SPLITS = (("train", 0.8), ("validation", 0.1), ("test", 0.1))
_SEAL_ROWS = 500


async def create(
    tx: Transaction, request: registry_service_pb2.CreateDatasetRequest, *, now: datetime
) -> dataset_pb2.Dataset:
    """Creates an open dataset."""
    violations = dataset_rules.create_violations(request)
    if violations:
        raise InvalidArgument(violations)
    if made := await requests.recall(tx, request.request_id, request):
        return await get(tx, made)
    name = f"datasets/{request.dataset_id or names.new_id('dataset')}"
    dataset = dataset_pb2.Dataset()
    dataset.CopyFrom(request.dataset)
    dataset.name = name
    dataset.state = dataset_pb2.Dataset.OPEN
    dataset.create_time.CopyFrom(timestamp(now))
    if not dataset.splits:
        dataset.splits.extend(dataset_pb2.Split(name=n, fraction=f) for n, f in _DEFAULT_SPLITS)
    if not dataset.source.generator:
        dataset.source.generator = "upload"
    inserted = await tx.execute(
        "INSERT INTO datasets (name, state, document, create_time)"
        " VALUES (%(name)s, %(state)s, %(document)s, %(now)s) ON CONFLICT DO NOTHING",
        name=name,
        state=dataset.state,
        document=dataset.SerializeToString(),
        now=now,
    )
    if not inserted:
        raise AlreadyExists(name, f"`{name}` exists. Choose another `dataset_id`, or leave it empty.")
    await requests.remember(tx, request.request_id, name)
    return dataset


async def get(tx: Transaction, name: str) -> dataset_pb2.Dataset:
    """A dataset. Raises NotFound."""
    row = await tx.one("SELECT document FROM datasets WHERE name = %(name)s", name=name)
    if row is None:
        raise NotFound(name)
    return dataset_pb2.Dataset.FromString(row["document"])


async def get_sealed(tx: Transaction, name: str) -> dataset_pb2.Dataset:
    """A sealed dataset. Raises NotFound, FailedPrecondition with reason DATASET_NOT_SEALED."""
    dataset = await get(tx, name)
    if dataset.state != dataset_pb2.Dataset.SEALED:
        raise FailedPrecondition(
            Reason.DATASET_NOT_SEALED,
            f"Dataset `{name}` is open. Seal it with SealDataset, then repeat the call.",
            {"resource": name},
        )
    return dataset


async def list_page(
    tx: Transaction, request: registry_service_pb2.ListDatasetsRequest
) -> registry_service_pb2.ListDatasetsResponse:
    """A page of datasets, newest first."""
    page = await newest_first(
        tx, "datasets", request, columns="name, create_time, document", payload="document"
    )
    return registry_service_pb2.ListDatasetsResponse(
        datasets=[dataset_pb2.Dataset.FromString(row["document"]) for row in page.rows],
        next_page_token=page.next_page_token,
    )


async def append(
    tx: Transaction, name: str, offset: int, traces: Sequence[dataset_pb2.Trace], *, size_bytes: int
) -> int:
    """Stores a batch whole or not at all, and returns the number of traces in the dataset.

    Traces before the end of the dataset are stored already and left as they are.
    """
    dataset_rules.check_batch(offset, len(traces), size_bytes)
    row = await tx.one("SELECT document FROM datasets WHERE name = %(name)s FOR UPDATE", name=name)
    if row is None:
        raise NotFound(name)
    dataset = dataset_pb2.Dataset.FromString(row["document"])
    committed = dataset.trace_count
    if offset > committed:
        raise OutOfRange(
            Reason.STREAM_GAP,
            f"offset is {offset}, but `{name}` has {committed} traces. Go on at {committed}.",
            {"resource": name, "offset": offset, "committed": committed},
        )
    if offset + len(traces) <= committed:
        return committed
    if dataset.state == dataset_pb2.Dataset.SEALED:
        raise FailedPrecondition(
            Reason.DATASET_SEALED,
            f"Dataset `{name}` is sealed and never changes. Create another one.",
            {"resource": name},
        )
    fractions = {split.name: split.fraction for split in dataset.splits}
    records = make_records(traces, fractions, seed=dataset.split_seed)
    fresh = records[committed - offset :]
    await _check_new(tx, name, fresh, committed, first_index=committed - offset)
    await _insert(tx, name, fresh, committed)
    counts = Counter(record.split for record in fresh)
    for split in dataset.splits:
        split.trace_count += counts[split.name]
    dataset.trace_count += len(fresh)
    await _save(tx, dataset)
    return dataset.trace_count


async def seal(
    tx: Transaction,
    request: registry_service_pb2.SealDatasetRequest,
    blobs: Blobs,
    *,
    now: datetime,
) -> dataset_pb2.Dataset:
    """Makes a dataset immutable, with its canonical JSONL as a blob."""
    name = names.require(request.name, names.DATASET, "name")
    row = await tx.one("SELECT document FROM datasets WHERE name = %(name)s FOR UPDATE", name=name)
    if row is None:
        raise NotFound(name)
    dataset = dataset_pb2.Dataset.FromString(row["document"])
    if dataset.state == dataset_pb2.Dataset.SEALED:
        _check_expected(request, dataset.sha256)
        return dataset
    if not dataset.trace_count:
        raise FailedPrecondition(
            Reason.DATASET_EMPTY,
            f"Dataset `{name}` has no traces. Append some, then seal it.",
            {"resource": name},
        )
    with tempfile.TemporaryDirectory(prefix="tunix-rt-seal-") as folder:
        path = Path(folder) / "traces.jsonl"
        blob = await _write_jsonl(tx, dataset, path)
        _check_expected(request, blob.sha256)
        await deletion.forbid(tx)
        await stored_files.store(blobs, path, blob)
    dataset.state = dataset_pb2.Dataset.SEALED
    dataset.sha256 = blob.sha256
    dataset.size_bytes = blob.size_bytes
    dataset.seal_time.CopyFrom(timestamp(now))
    await _save(tx, dataset)
    return dataset


async def list_traces(
    tx: Transaction, request: registry_service_pb2.ListTracesRequest
) -> registry_service_pb2.ListTracesResponse:
    """A page of traces in the order in which they were appended."""
    name = names.require(request.dataset, names.DATASET, "dataset")
    dataset = await get(tx, name)
    known = [split.name for split in dataset.splits]
    if request.split and request.split not in known:
        text = f"is `{request.split[:80]}`; `{name}` has {', '.join(known)}."
        raise InvalidArgument.of("split", text)
    filters = [name, request.split]
    size = page_size(request.page_size)
    position = decode_token(request.page_token, filters, 1)
    where = "AND split = %(split)s" if request.split else ""
    rows = await tx.all(
        within_bytes(
            "SELECT position, record FROM traces WHERE dataset = %(name)s AND position > %(after)s"
            f" {where} ORDER BY position LIMIT %(limit)s",
            order="position",
            payload="record",
        ),
        name=name,
        after=int(position[0]) if position else -1,
        split=request.split,
        limit=size + 1,
    )
    kept, more = cut(rows, size)
    return registry_service_pb2.ListTracesResponse(
        traces=[to_message(row["record"]) for row in kept],
        next_page_token=encode_token([kept[-1]["position"]], filters) if more else "",
    )


async def _check_new(
    tx: Transaction, name: str, records: Sequence[TraceRecord], committed: int, *, first_index: int
) -> None:
    """Raises InvalidArgument if an id or a content is in the dataset or in the batch already."""
    stored = await tx.all(
        "SELECT position, trace_id, content FROM traces WHERE dataset = %(name)s"
        " AND (trace_id = ANY(%(ids)s::text[]) OR content = ANY(%(contents)b::bytea[]))",
        name=name,
        ids=[record.trace_id for record in records],
        contents=[record.content for record in records],
    )
    ids = {row["trace_id"]: row["position"] for row in stored}
    contents = {row["content"]: row["position"] for row in stored}
    violations = []
    for index, record in enumerate(records):
        position, field = committed + index, f"traces[{first_index + index}]"
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
    if violations:
        raise InvalidArgument(violations[:100], Reason.TRACES_INVALID)


async def _insert(tx: Transaction, name: str, records: Sequence[TraceRecord], first: int) -> None:
    await tx.execute(
        "INSERT INTO traces (dataset, position, trace_id, content, split, record)"
        " SELECT %(name)s, %(first)s + number - 1, trace_id, content, split, record FROM unnest("
        "%(ids)s::text[], %(contents)b::bytea[], %(splits)s::text[], %(records)b::bytea[])"
        " WITH ORDINALITY AS t (trace_id, content, split, record, number)",
        name=name,
        first=first,
        ids=[record.trace_id for record in records],
        contents=[record.content for record in records],
        splits=[record.split for record in records],
        records=[record.record for record in records],
    )


async def _save(tx: Transaction, dataset: dataset_pb2.Dataset) -> None:
    await tx.execute(
        "UPDATE datasets SET state = %(state)s, trace_count = %(count)s, document = %(document)s"
        " WHERE name = %(name)s",
        name=dataset.name,
        state=dataset.state,
        count=dataset.trace_count,
        document=dataset.SerializeToString(),
    )


async def _write_jsonl(tx: Transaction, dataset: dataset_pb2.Dataset, path: Path) -> Blob:
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for first in range(0, dataset.trace_count, _SEAL_ROWS):
            rows: list[Row] = await tx.all(
                "SELECT record FROM traces WHERE dataset = %(name)s AND position >= %(first)s"
                " AND position < %(end)s ORDER BY position",
                name=dataset.name,
                first=first,
                end=first + _SEAL_ROWS,
            )
            data = b"".join(row["record"] + b"\n" for row in rows)
            digest.update(data)
            size += len(data)
            await asyncio.to_thread(file.write, data)
    return Blob(digest.hexdigest(), size)


def _check_expected(request: registry_service_pb2.SealDatasetRequest, sha256: str) -> None:
    if request.expected_sha256 and request.expected_sha256 != sha256:
        raise FailedPrecondition(
            Reason.DATASET_DIGEST_MISMATCH,
            f"Dataset `{request.name}` has SHA-256 {sha256}, not {request.expected_sha256[:64]}."
            " Its traces differ from those that were expected.",
            {"resource": request.name, "sha256": sha256, "expected_sha256": request.expected_sha256[:64]},
        )
