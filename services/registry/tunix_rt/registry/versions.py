"""The ids of versions that a client leaves to the registry."""

from __future__ import annotations

from tunix_rt.registry.database import Transaction


async def next_id(tx: Transaction, table: str, parent: str) -> str:
    """The next free of `v1`, `v2`, … in a table; concurrent calls for one parent wait for each other."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended(%(parent)s, 0))", parent=parent)
    row = await tx.one(
        "SELECT coalesce(max(substring(name from '/v([0-9]{1,9})$')::bigint), 0) + 1 AS number"
        f" FROM {table} WHERE parent = %(parent)s",
        parent=parent,
    )
    assert row is not None
    return f"v{row['number']}"
