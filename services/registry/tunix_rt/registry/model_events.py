"""What was done to a model: written with the change itself, and never changed."""

from __future__ import annotations

from datetime import datetime

from tunix_rt.registry.database import Transaction
from tunix_rt.registry.messages import timestamp
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import NotFound, Violation
from tunix_rt.rpc.pages import decode_token, encode_token, page_size
from tunix_rt.v1 import model_pb2, registry_service_pb2

MAX_REASON = 2000


def reason_violation(reason: str) -> Violation | None:
    """What is wrong with what people give as a reason, or None; the empty one is right."""
    if len(reason) <= MAX_REASON:
        return None
    return Violation("reason", f"has {len(reason)} characters; at most {MAX_REASON} are kept.")


async def lock(tx: Transaction, parent: str) -> None:
    """Lets concurrent changes of a model wait for each other. Raises NotFound if it has no version."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended(%(parent)s, 0))", parent=parent)
    await require_model(tx, parent)


async def require_model(tx: Transaction, parent: str) -> None:
    """Raises NotFound if a model has no version."""
    query = "SELECT 1 AS one FROM model_versions WHERE parent = %(parent)s LIMIT 1"
    if await tx.one(query, parent=parent) is None:
        raise NotFound(parent)


async def add(
    tx: Transaction,
    parent: str,
    kind: str,
    description: str,
    *,
    now: datetime,
    reason: str = "",
    version: str = "",
    override_gate: bool = False,
) -> None:
    """Writes an event in the transaction that makes the change."""
    event = model_pb2.ModelEvent(
        event_time=timestamp(now),
        kind=kind,
        description=description,
        reason=reason,
        version=version,
        override_gate=override_gate,
    )
    await tx.execute(
        "INSERT INTO model_events (parent, document) VALUES (%(parent)s, %(document)s)",
        parent=parent,
        document=event.SerializeToString(),
    )


async def of_version(tx: Transaction, version: str) -> list[model_pb2.ModelEvent]:
    """The events that concern a version, oldest first."""
    rows = await tx.all(
        "SELECT document FROM model_events WHERE parent = %(parent)s ORDER BY number",
        parent=names.parent(version),
    )
    events = [model_pb2.ModelEvent.FromString(row["document"]) for row in rows]
    return [event for event in events if event.version == version]


async def list_page(
    tx: Transaction, request: registry_service_pb2.ListModelEventsRequest
) -> registry_service_pb2.ListModelEventsResponse:
    """A page of the events of a model, newest first. Raises NotFound."""
    parent = names.require(request.parent, names.MODEL, "parent")
    size = page_size(request.page_size)
    (before,) = decode_token(request.page_token, ["model_events", parent], 1) or (2**62,)
    await require_model(tx, parent)
    rows = await tx.all(
        "SELECT number, document FROM model_events WHERE parent = %(parent)s AND number < %(before)s"
        " ORDER BY number DESC LIMIT %(limit)s",
        parent=parent,
        before=int(before),
        limit=size + 1,
    )
    more = len(rows) > size
    kept = rows[:size]
    return registry_service_pb2.ListModelEventsResponse(
        events=[model_pb2.ModelEvent.FromString(row["document"]) for row in kept],
        next_page_token=encode_token([kept[-1]["number"]], ["model_events", parent]) if more else "",
    )
