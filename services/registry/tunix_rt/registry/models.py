"""Model versions: immutable weights with their tokenizer, checked when they are made."""

from __future__ import annotations

import asyncio
from datetime import datetime

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.blobs.manifest import manifest_digest
from tunix_rt.lm.errors import ModelError
from tunix_rt.registry import deletion, requests, runs, stored_files, versions
from tunix_rt.registry.database import Transaction
from tunix_rt.registry.messages import timestamp
from tunix_rt.registry.model_check import ModelFacts, check_model
from tunix_rt.registry.paging import newest_first
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import AlreadyExists, InvalidArgument, NotFound, Reason, Violation
from tunix_rt.v1 import model_pb2, registry_service_pb2

MAX_DOCUMENT_BYTES = 1024 * 1024
_OUTPUT_ONLY = ("name", "digest", "size_bytes", "create_time")


async def check(request: registry_service_pb2.CreateModelVersionRequest, blobs: Blobs) -> ModelFacts:
    """What the files say. Raises unless the request is well formed and its files are stored and a model."""
    violations = _violations(request)
    if violations:
        raise InvalidArgument(violations)
    version = request.model_version
    await stored_files.require_stored(blobs, version.files, "model_version.files")
    try:
        with stored_files.translated():
            facts = await asyncio.to_thread(check_model, version.files, blobs)
    except ModelError as error:
        raise InvalidArgument([Violation("model_version.files", str(error))], Reason.MODEL_INVALID) from error
    found = []
    for field in ("architecture", "parameter_count"):
        given, read = getattr(version, field), getattr(facts, field)
        if given and given != read:
            found.append(Violation(f"model_version.{field}", f"is {given}, but the files say {read}."))
    if found:
        raise InvalidArgument(found)
    return facts


async def create(
    tx: Transaction,
    request: registry_service_pb2.CreateModelVersionRequest,
    facts: ModelFacts,
    blobs: Blobs,
    *,
    now: datetime,
) -> model_pb2.ModelVersion:
    """Records a model version whose request the caller has checked with `check`.

    Its files are looked for once more: no deletion comes between that look and the end of the transaction.
    """
    if made := await requests.recall(tx, request.request_id, request):
        return await get(tx, made)
    version = model_pb2.ModelVersion()
    version.CopyFrom(request.model_version)
    if version.run:
        await runs.require(tx, version.run, "model_version.run")
    version_id = request.version_id or await versions.next_id(tx, "model_versions", request.parent)
    version.name = f"{request.parent}/versions/{version_id}"
    await deletion.forbid(tx)
    await stored_files.require_stored(blobs, version.files, "model_version.files")
    files = sorted(version.files, key=lambda file: file.path)
    del version.files[:]
    version.files.extend(files)
    version.digest = manifest_digest((file.path, file.sha256) for file in files)
    version.size_bytes = sum(file.size_bytes for file in files)
    version.architecture = facts.architecture
    version.parameter_count = facts.parameter_count
    version.create_time.CopyFrom(timestamp(now))
    inserted = await tx.execute(
        "INSERT INTO model_versions (name, parent, run, digest, document, create_time) VALUES"
        " (%(name)s, %(parent)s, %(run)s, %(digest)s, %(document)s, %(now)s) ON CONFLICT DO NOTHING",
        name=version.name,
        parent=request.parent,
        run=version.run,
        digest=version.digest,
        document=version.SerializeToString(),
        now=now,
    )
    if not inserted:
        text = f"`{version.name}` exists. Choose another `version_id`, or leave it empty."
        raise AlreadyExists(version.name, text)
    await requests.remember(tx, request.request_id, version.name)
    return version


async def get(tx: Transaction, name: str) -> model_pb2.ModelVersion:
    """A model version. Raises NotFound."""
    names.require(name, names.MODEL_VERSION, "name")
    row = await tx.one("SELECT document FROM model_versions WHERE name = %(name)s", name=name)
    if row is None:
        raise NotFound(name)
    return model_pb2.ModelVersion.FromString(row["document"])


async def list_page(
    tx: Transaction, request: registry_service_pb2.ListModelVersionsRequest
) -> registry_service_pb2.ListModelVersionsResponse:
    """A page of model versions, newest first."""
    if request.parent:
        names.require(request.parent, names.MODEL, "parent")
    page = await newest_first(
        tx,
        "model_versions",
        request,
        columns="name, create_time, document",
        payload="document",
        parent=request.parent,
    )
    return registry_service_pb2.ListModelVersionsResponse(
        model_versions=[model_pb2.ModelVersion.FromString(row["document"]) for row in page.rows],
        next_page_token=page.next_page_token,
    )


def _violations(request: registry_service_pb2.CreateModelVersionRequest) -> list[Violation]:
    version = request.model_version
    found = [
        names.check(request.parent, names.MODEL, "parent"),
        names.check_id(request.version_id, "version_id"),
        requests.check_request_id(request.request_id),
        names.check(version.run, names.RUN, "model_version.run") if version.run else None,
    ]
    found += stored_files.file_violations(version.files, "model_version.files")
    for field in _OUTPUT_ONLY:
        if any(descriptor.name == field for descriptor, _ in version.ListFields()):
            found.append(Violation(f"model_version.{field}", "is output only; leave it out."))
    if version.ByteSize() > MAX_DOCUMENT_BYTES:
        text = f"has {version.ByteSize()} bytes; at most {MAX_DOCUMENT_BYTES} are kept."
        found.append(Violation("model_version", text))
    return [each for each in found if each]
