"""Idempotent creation: what a request id has made."""

from __future__ import annotations

import hashlib
import uuid

from google.protobuf.message import Message

from tunix_rt.registry.database import Transaction
from tunix_rt.rpc.errors import AlreadyExists, Reason, Violation


def check_request_id(value: str) -> Violation | None:
    """What is wrong with a request id, or None; the empty one is right."""
    if not value:
        return None
    try:
        uuid.UUID(value)
    except ValueError:
        return Violation("request_id", f"is `{value[:80]!r}`; it must be a UUID, or empty.")
    return None


async def recall(tx: Transaction, request_id: str, request: Message) -> str | None:
    """The name that the request has made before, or None if it is new.

    Of concurrent calls with one id the second waits for the first. Raises AlreadyExists, reason
    REQUEST_ID_REUSED, if the id came with another content.
    """
    if not request_id:
        return None
    body = request.DESCRIPTOR.full_name.encode() + b"\n" + request.SerializeToString(deterministic=True)
    digest = hashlib.sha256(body).hexdigest()
    made = await tx.execute(
        "INSERT INTO requests (request_id, digest) VALUES (%(id)s, %(digest)s) ON CONFLICT DO NOTHING",
        id=request_id,
        digest=digest,
    )
    if made:
        return None
    row = await tx.one("SELECT digest, name FROM requests WHERE request_id = %(id)s", id=request_id)
    assert row is not None
    if row["digest"] != digest:
        raise AlreadyExists(
            row["name"],
            f"Request id {request_id} made `{row['name']}` with another content. Use a new UUID.",
            Reason.REQUEST_ID_REUSED,
        )
    return str(row["name"])


async def remember(tx: Transaction, request_id: str, name: str) -> None:
    """Records what a new request has made, in the transaction that makes it."""
    if request_id:
        await tx.execute(
            "UPDATE requests SET name = %(name)s WHERE request_id = %(id)s", id=request_id, name=name
        )
