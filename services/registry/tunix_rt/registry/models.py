"""Model versions: immutable weights with their tokenizer, checked when they are made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.blobs.manifest import manifest_digest
from tunix_rt.lm.errors import ModelError
from tunix_rt.registry import deletion, requests, runs, stored_files, versions
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.lifecycle import State
from tunix_rt.registry.messages import timestamp
from tunix_rt.registry.model_check import ModelFacts, check_model
from tunix_rt.registry.paging import newest_first
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import AlreadyExists, InvalidArgument, NotFound, Reason, Violation
from tunix_rt.v1 import model_pb2, registry_service_pb2

MAX_DOCUMENT_BYTES = 1024 * 1024
_OUTPUT_ONLY = (
    "name",
    "digest",
    "size_bytes",
    "create_time",
    *("stage", "aliases", "evaluations", "gate_overridden"),
)
MAX_EVALUATIONS = 100
_COLUMNS = "name, digest, create_time, document, stage, gate_overridden"


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

    Raises FailedPrecondition, reason BLOB_MISSING, if files were deleted since; no deletion comes between
    this look and the end of the transaction.
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
    return await get(tx, version.name)


async def get(tx: Transaction, name: str) -> model_pb2.ModelVersion:
    """The version of its own name, of an alias, or the newest one of a model. Raises NotFound."""
    row = await tx.one(
        f"SELECT {_COLUMNS} FROM model_versions WHERE name = %(name)s", name=await resolve(tx, name)
    )
    if row is None:
        raise NotFound(name)
    return (await _complete(tx, [row]))[0]


async def resolve(tx: Transaction, name: str) -> str:
    """The name of the version that a name stands for now. Raises NotFound, InvalidArgument."""
    bad = names.check_any(name, (names.MODEL_VERSION, names.MODEL_ALIAS, names.MODEL), "name")
    if bad:
        raise InvalidArgument([bad])
    if names.matches(name, names.MODEL_VERSION):
        return name
    alias = names.matches(name, names.MODEL_ALIAS)
    row = await tx.one(
        "SELECT version FROM model_aliases WHERE name = %(name)s"
        if alias
        else "SELECT name AS version FROM model_versions WHERE parent = %(name)s"
        " ORDER BY create_time DESC, name DESC LIMIT 1",
        name=name,
    )
    if row is None:
        raise NotFound(name)
    return str(row["version"])


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
        columns=_COLUMNS,
        payload="document",
        parent=request.parent,
    )
    return registry_service_pb2.ListModelVersionsResponse(
        model_versions=await _complete(tx, page.rows),
        next_page_token=page.next_page_token,
    )


async def _complete(tx: Transaction, rows: Sequence[Row]) -> list[model_pb2.ModelVersion]:
    """The versions of rows, with what may change of them."""
    wanted = [row["name"] for row in rows]
    found = {row["name"]: model_pb2.ModelVersion.FromString(row["document"]) for row in rows}
    for row in rows:
        found[row["name"]].stage = row["stage"]
        found[row["name"]].gate_overridden = row["gate_overridden"]
    for row in await tx.all(
        "SELECT name, version FROM model_aliases WHERE version = ANY(%(names)s::text[]) ORDER BY name",
        names=wanted,
    ):
        found[row["version"]].aliases.append(names.resource_id(row["name"]))
    for row in await tx.all(
        "SELECT v.name AS version, e.name"
        " FROM unnest(%(names)s::text[], %(digests)s::text[]) v (name, digest)"
        " CROSS JOIN LATERAL (SELECT name, j.create_time FROM evaluations JOIN jobs j USING (name)"
        " WHERE weights_digest = v.digest AND weights_digest <> '' AND j.state = %(state)s"
        " ORDER BY j.create_time DESC, name DESC LIMIT %(limit)s) e ORDER BY e.create_time DESC, e.name DESC",
        names=wanted,
        digests=[row["digest"] for row in rows],
        state=int(State.SUCCEEDED),
        limit=MAX_EVALUATIONS,
    ):
        found[row["version"]].evaluations.append(row["name"])
    return list(found.values())


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
