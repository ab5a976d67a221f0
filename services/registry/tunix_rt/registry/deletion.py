"""Who may delete stored bytes, and when: not while somebody is about to name them, nor during a backup."""

from __future__ import annotations

from tunix_rt.registry.database import Transaction

DELETION_LOCK = 7_303_014_422
"""Held while bytes are deleted, and shared by who names bytes after a look whether they are stored."""


async def forbid(tx: Transaction) -> None:
    """No bytes are deleted until the end of the transaction; who names bytes looks for them after this."""
    await tx.execute("SELECT pg_advisory_xact_lock_shared(%(lock)s)", lock=DELETION_LOCK)


async def begin(tx: Transaction) -> bool:
    """Whether bytes may be deleted until the end of the transaction: not while a backup reads them.

    Nothing is named meanwhile. What may not be deleted is garbage from then on.
    """
    await tx.execute("SELECT pg_advisory_xact_lock(%(lock)s)", lock=DELETION_LOCK)
    return not await tx.backup_runs()
