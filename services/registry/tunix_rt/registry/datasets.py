"""Datasets: created open, from nothing or from others, read and listed."""

from __future__ import annotations

from datetime import UTC, datetime

from tunix_rt.registry import dataset_rules, requests
from tunix_rt.registry.database import Transaction
from tunix_rt.registry.messages import timestamp
from tunix_rt.registry.paging import cut, newest_first, within_bytes
from tunix_rt.registry.trace_records import to_message
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Reason
from tunix_rt.rpc.pages import decode_token, encode_token, page_size
from tunix_rt.v1 import dataset_pb2, registry_service_pb2

_DEFAULT_SPLITS = (("train", 0.8), ("validation", 0.1), ("test", 0.1))


async def create(
    tx: Transaction, request: registry_service_pb2.CreateDatasetRequest, *, now: datetime
) -> dataset_pb2.Dataset:
    """Creates an open dataset. Raises NotFound and FailedPrecondition for parents that are not usable."""
    violations = dataset_rules.create_violations(request)
    if violations:
        raise InvalidArgument(violations)
    if made := await requests.recall(tx, request.request_id, request):
        return await get(tx, made)
    for parent in request.dataset.parents:
        await get_sealed(tx, parent)
    name = f"datasets/{request.dataset_id or names.new_id('dataset')}"
    dataset = dataset_pb2.Dataset()
    dataset.CopyFrom(request.dataset)
    dataset.name = name
    dataset.state = dataset_pb2.Dataset.OPEN
    dataset.create_time.CopyFrom(timestamp(now))
    if not dataset.splits:
        dataset.splits.extend(dataset_pb2.Split(name=n, fraction=f) for n, f in _DEFAULT_SPLITS)
    if not dataset.source.generator:
        dataset.source.generator = "derived" if dataset.parents else "upload"
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
    await tx.execute(
        "INSERT INTO dataset_parents (dataset, parent) SELECT %(name)s, unnest(%(parents)s::text[])",
        name=name,
        parents=list(dataset.parents),
    )
    await requests.remember(tx, request.request_id, name)
    return dataset


async def get(tx: Transaction, name: str) -> dataset_pb2.Dataset:
    """A dataset. Raises NotFound."""
    row = await tx.one("SELECT document FROM datasets WHERE name = %(name)s", name=name)
    if row is None:
        raise NotFound(name)
    return dataset_pb2.Dataset.FromString(row["document"])


async def get_sealed(tx: Transaction, name: str) -> dataset_pb2.Dataset:
    """A sealed dataset that nobody deletes before the transaction ends.

    Raises NotFound, FailedPrecondition with reason DATASET_NOT_SEALED or DATASET_DELETED.
    """
    row = await tx.one("SELECT document FROM datasets WHERE name = %(name)s FOR KEY SHARE", name=name)
    if row is None:
        raise NotFound(name)
    dataset = dataset_pb2.Dataset.FromString(row["document"])
    require_kept(dataset)
    if dataset.state != dataset_pb2.Dataset.SEALED:
        raise FailedPrecondition(
            Reason.DATASET_NOT_SEALED,
            f"Dataset `{name}` is open. Seal it with SealDataset, then repeat the call.",
            {"resource": name},
        )
    return dataset


async def lock(tx: Transaction, name: str) -> dataset_pb2.Dataset:
    """A dataset that nobody else changes or comes to use before the transaction ends. Raises NotFound."""
    row = await tx.one("SELECT document FROM datasets WHERE name = %(name)s FOR UPDATE", name=name)
    if row is None:
        raise NotFound(name)
    return dataset_pb2.Dataset.FromString(row["document"])


def require_kept(dataset: dataset_pb2.Dataset) -> None:
    """Raises FailedPrecondition, reason DATASET_DELETED, if a dataset is deleted."""
    if dataset.HasField("delete_time"):
        raise FailedPrecondition(
            Reason.DATASET_DELETED,
            f"Dataset `{dataset.name}` is deleted. Restore it with UndeleteDataset, then repeat the call.",
            {"resource": dataset.name},
        )


async def list_page(
    tx: Transaction, request: registry_service_pb2.ListDatasetsRequest
) -> registry_service_pb2.ListDatasetsResponse:
    """A page of datasets, newest first."""
    page = await newest_first(
        tx,
        "datasets",
        request,
        columns="name, create_time, document",
        payload="document",
        where="true" if request.show_deleted else "delete_time IS NULL",
    )
    return registry_service_pb2.ListDatasetsResponse(
        datasets=[dataset_pb2.Dataset.FromString(row["document"]) for row in page.rows],
        next_page_token=page.next_page_token,
    )


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


async def save(tx: Transaction, dataset: dataset_pb2.Dataset) -> None:
    """Stores a dataset that was changed."""
    deleted = dataset.delete_time.ToDatetime(UTC) if dataset.HasField("delete_time") else None
    await tx.execute(
        "UPDATE datasets SET state = %(state)s, trace_count = %(count)s, document = %(document)s,"
        " delete_time = %(deleted)s WHERE name = %(name)s",
        deleted=deleted,
        name=dataset.name,
        state=dataset.state,
        count=dataset.trace_count,
        document=dataset.SerializeToString(),
    )
