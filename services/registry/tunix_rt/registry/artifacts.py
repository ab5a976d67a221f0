"""Artifacts: named sets of stored files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.blobs.manifest import manifest_digest
from tunix_rt.registry import deletion, queue, stored_files
from tunix_rt.registry.database import Transaction
from tunix_rt.registry.messages import timestamp
from tunix_rt.registry.paging import newest_first
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, NotFound, Violation
from tunix_rt.v1 import artifact_pb2, job_service_pb2, registry_service_pb2

KINDS = ("checkpoint", "model", "log", "predictions", "dataset", "rows", "samples", "profile")
_TABLES_WITH_FILES = ("artifacts", "model_versions", "datasets")


async def record(
    tx: Transaction, request: job_service_pb2.RecordArtifactRequest, blobs: Blobs, *, now: datetime
) -> artifact_pb2.Artifact:
    """Records an artifact; the same files for the same owner, kind and step give the first record.

    The caller has called `check`. Raises FailedPrecondition, reason BLOB_MISSING, unless the files are
    stored; no deletion comes between that look and the end of the transaction.
    """
    await queue.hold(tx, request.name, request.attempt)
    await deletion.forbid(tx)
    await stored_files.require_stored(blobs, request.artifact.files, "artifact.files")
    made = artifact_pb2.Artifact(
        name=f"artifacts/{names.new_id('art')}",
        kind=request.artifact.kind,
        owner=request.name,
        attempt=request.attempt,
        step=request.artifact.step,
        files=sorted(request.artifact.files, key=lambda file: file.path),
        digest=manifest_digest((file.path, file.sha256) for file in request.artifact.files),
        size_bytes=sum(file.size_bytes for file in request.artifact.files),
        create_time=timestamp(now),
    )
    keys = {"owner": made.owner, "kind": made.kind, "step": made.step, "digest": made.digest}
    inserted = await tx.execute(
        "INSERT INTO artifacts (name, kind, owner, step, digest, document, create_time) VALUES"
        " (%(name)s, %(kind)s, %(owner)s, %(step)s, %(digest)s, %(document)s, %(now)s)"
        " ON CONFLICT (owner, kind, step, digest) DO NOTHING",
        name=made.name,
        document=made.SerializeToString(),
        now=now,
        **keys,
    )
    if inserted:
        return made
    row = await tx.one(
        "SELECT document FROM artifacts WHERE owner = %(owner)s AND kind = %(kind)s AND step = %(step)s"
        " AND digest = %(digest)s",
        **keys,
    )
    assert row is not None
    return artifact_pb2.Artifact.FromString(row["document"])


def check(request: job_service_pb2.RecordArtifactRequest) -> None:
    """Raises unless the artifact is well formed."""
    queue.job_name(request.name)
    artifact = request.artifact
    found = stored_files.file_violations(artifact.files, "artifact.files")
    if artifact.kind not in KINDS:
        text = f"is `{artifact.kind[:80]}`; it must be one of {', '.join(KINDS)}."
        found.append(Violation("artifact.kind", text))
    if artifact.step < 0:
        found.append(Violation("artifact.step", f"is {artifact.step}; it must not be negative."))
    for field in ("name", "digest", "size_bytes", "create_time"):
        if any(descriptor.name == field for descriptor, _ in artifact.ListFields()):
            found.append(Violation(f"artifact.{field}", "is output only; leave it out."))
    if artifact.owner and artifact.owner != request.name:
        found.append(Violation("artifact.owner", f"is `{artifact.owner[:80]}`; leave it out."))
    if found:
        raise InvalidArgument(found)


async def delete(tx: Transaction, request: job_service_pb2.DeleteArtifactRequest) -> list[str]:
    """Deletes a checkpoint's record; the SHA-256 of its files, none where there is no such record.

    Raises InvalidArgument unless it is a checkpoint of the job.
    """
    queue.job_name(request.name)
    names.require(request.artifact, names.ARTIFACT, "artifact")
    await queue.hold(tx, request.name, request.attempt)
    row = await tx.one(
        "SELECT kind, owner, document FROM artifacts WHERE name = %(name)s", name=request.artifact
    )
    if row is None:
        return []
    if (row["kind"], row["owner"]) != ("checkpoint", request.name):
        text = f"is `{request.artifact}`, a {row['kind']} of `{row['owner']}`; it must be a checkpoint of"
        raise InvalidArgument.of("artifact", f"{text} `{request.name}`.")
    await tx.execute("DELETE FROM artifacts WHERE name = %(name)s", name=request.artifact)
    return [file.sha256 for file in artifact_pb2.Artifact.FromString(row["document"]).files]


async def delete_unused(tx: Transaction, blobs: Blobs, digests: Sequence[str]) -> None:
    """Deletes the bytes that no record has, while none can be made of them.

    A digest stands in a record's message as its 64 digits. During a backup nothing is deleted: the bytes are
    left to `CollectGarbage`.
    """
    if not await deletion.begin(tx):
        return
    for digest in dict.fromkeys(digests):
        used = await tx.one(
            " UNION ALL ".join(
                f"SELECT 1 AS one FROM {table} WHERE position(%(digits)s IN document) > 0"
                for table in _TABLES_WITH_FILES
            ),
            digits=digest.encode(),
        )
        if used is None:
            with stored_files.translated():
                await asyncio.to_thread(blobs.delete, digest)


async def get(tx: Transaction, name: str) -> artifact_pb2.Artifact:
    """An artifact. Raises NotFound."""
    names.require(name, names.ARTIFACT, "name")
    row = await tx.one("SELECT document FROM artifacts WHERE name = %(name)s", name=name)
    if row is None:
        raise NotFound(name)
    return artifact_pb2.Artifact.FromString(row["document"])


async def list_page(
    tx: Transaction, request: registry_service_pb2.ListArtifactsRequest
) -> registry_service_pb2.ListArtifactsResponse:
    """A page of artifacts, newest first."""
    if request.owner:
        queue.job_name(request.owner, "owner")
    if request.kind and request.kind not in KINDS:
        raise InvalidArgument.of("kind", f"is `{request.kind[:80]}`; it must be one of {', '.join(KINDS)}.")
    page = await newest_first(
        tx,
        "artifacts",
        request,
        columns="name, create_time, document",
        payload="document",
        owner=request.owner,
        kind=request.kind,
    )
    return registry_service_pb2.ListArtifactsResponse(
        artifacts=[artifact_pb2.Artifact.FromString(row["document"]) for row in page.rows],
        next_page_token=page.next_page_token,
    )
