"""Aliases of models: names that point to a version and can be moved."""

from __future__ import annotations

from datetime import datetime

from tunix_rt.registry import model_events
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.messages import timestamp
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, NotFound, Violation
from tunix_rt.v1 import model_pb2, registry_service_pb2


async def set_alias(
    tx: Transaction, request: registry_service_pb2.SetModelAliasRequest, *, now: datetime
) -> model_pb2.ModelAlias:
    """Points an alias to a version of its model; where it points there already, nothing changes."""
    parent = _check(request)
    await model_events.lock(tx, parent)
    query = "SELECT 1 AS one FROM model_versions WHERE name = %(name)s"
    if await tx.one(query, name=request.version) is None:
        raise NotFound(request.version)
    present = await _find(tx, request.name)
    if present and present["version"] == request.version:
        return alias_of(present)
    await tx.execute(
        "INSERT INTO model_aliases (name, parent, version, update_time)"
        " VALUES (%(name)s, %(parent)s, %(version)s, %(now)s) ON CONFLICT (name) DO UPDATE"
        " SET version = excluded.version, update_time = excluded.update_time",
        name=request.name,
        parent=parent,
        version=request.version,
        now=now,
    )
    alias, version = names.resource_id(request.name), names.resource_id(request.version)
    before = f"{names.resource_id(present['version'])} → " if present else ""
    await model_events.add(
        tx,
        parent,
        "alias-set",
        f"{alias}: {before}{version}",
        reason=request.reason,
        version=request.version,
        now=now,
    )
    return alias_of({"name": request.name, "version": request.version, "update_time": now})


async def delete(
    tx: Transaction, request: registry_service_pb2.DeleteModelAliasRequest, *, now: datetime
) -> None:
    """Removes an alias. Raises NotFound."""
    found = [
        names.check(request.name, names.MODEL_ALIAS, "name"),
        model_events.reason_violation(request.reason),
    ]
    if bad := [each for each in found if each]:
        raise InvalidArgument(bad)
    parent = names.parent(request.name)
    await model_events.lock(tx, parent)
    present = await _find(tx, request.name)
    if present is None:
        raise NotFound(request.name)
    await tx.execute("DELETE FROM model_aliases WHERE name = %(name)s", name=request.name)
    text = f"{names.resource_id(request.name)}: {names.resource_id(present['version'])} → none"
    await model_events.add(
        tx, parent, "alias-deleted", text, reason=request.reason, version=present["version"], now=now
    )


def alias_of(row: Row) -> model_pb2.ModelAlias:
    """The alias of a row."""
    return model_pb2.ModelAlias(
        name=row["name"], version=row["version"], update_time=timestamp(row["update_time"])
    )


async def _find(tx: Transaction, name: str) -> Row | None:
    return await tx.one(
        "SELECT name, version, update_time FROM model_aliases WHERE name = %(name)s", name=name
    )


def _check(request: registry_service_pb2.SetModelAliasRequest) -> str:
    """The model. Raises InvalidArgument."""
    wrong_name = names.check(request.name, names.MODEL_ALIAS, "name")
    wrong_version = names.check(request.version, names.MODEL_VERSION, "version")
    found = [wrong_name, wrong_version, model_events.reason_violation(request.reason)]
    parent = names.parent(request.name)
    if not wrong_name and not wrong_version and names.parent(request.version) != parent:
        found.append(Violation("version", f"is `{request.version}`; it must be a version of `{parent}`."))
    if bad := [each for each in found if each]:
        raise InvalidArgument(bad)
    return parent
