"""A dataset made immutable, with its canonical bytes in the object store."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from datetime import datetime
from pathlib import Path

from tunix_rt.blobs.blobs import Blob, Blobs
from tunix_rt.registry import datasets, deletion, stored_files
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.messages import timestamp
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import FailedPrecondition, Reason
from tunix_rt.v1 import dataset_pb2, registry_service_pb2

_SEAL_ROWS = 2000
_EXAMPLES = 3


async def seal(
    tx: Transaction,
    request: registry_service_pb2.SealDatasetRequest,
    blobs: Blobs,
    *,
    now: datetime,
) -> dataset_pb2.Dataset:
    """Makes a dataset immutable, with its canonical JSONL as a blob."""
    dataset = await datasets.lock(tx, names.require(request.name, names.DATASET, "name"))
    datasets.require_kept(dataset)
    if dataset.state == dataset_pb2.Dataset.SEALED:
        _check_expected(request, dataset.sha256)
        return dataset
    if not dataset.trace_count:
        raise FailedPrecondition(
            Reason.DATASET_EMPTY,
            f"Dataset `{dataset.name}` has no traces. Append some, then seal it.",
            {"resource": dataset.name},
        )
    await _check_parents(tx, dataset)
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
    if dataset.given_splits:
        for split in dataset.splits:
            split.fraction = split.trace_count / dataset.trace_count
    await datasets.save(tx, dataset)
    return dataset


async def _check_parents(tx: Transaction, dataset: dataset_pb2.Dataset) -> None:
    """Raises FailedPrecondition, reason DATASET_NOT_DERIVED, if a trace is in none of the parents."""
    if not dataset.parents:
        return
    strangers = await tx.all(
        "SELECT trace_id, count(*) OVER () AS total FROM traces t WHERE dataset = %(name)s AND NOT EXISTS ("
        "SELECT FROM traces p WHERE p.dataset = ANY(%(parents)s::text[]) AND p.content = t.content)"
        " ORDER BY position LIMIT %(limit)s",
        name=dataset.name,
        parents=list(dataset.parents),
        limit=_EXAMPLES,
    )
    if strangers:
        total, ids = strangers[0]["total"], ", ".join(f"`{row['trace_id']}`" for row in strangers)
        raise FailedPrecondition(
            Reason.DATASET_NOT_DERIVED,
            f"Dataset `{dataset.name}` has {total} traces that are in none of its parents, such as {ids}."
            " Create it without parents, or with all datasets that its traces come from.",
            {"resource": dataset.name, "count": total},
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
