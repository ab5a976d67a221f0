"""What is given up by its age alone: runs archived long ago, checkpoints of runs that have long succeeded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tunix_rt.registry import run_changes
from tunix_rt.registry.database import Transaction
from tunix_rt.registry.lifecycle import State
from tunix_rt.v1 import registry_service_pb2

_TERMINAL = [int(state) for state in State if state.terminal]


@dataclass(frozen=True)
class Policy:
    """How long archived runs, and checkpoints of runs that have succeeded, are kept; None keeps them."""

    archived: timedelta | None
    checkpoints: timedelta | None


@dataclass(frozen=True)
class Expired:
    """The runs that were deleted, and the number of checkpoints that were removed."""

    runs: tuple[str, ...]
    checkpoint_count: int

    def tell(self, response: registry_service_pb2.CollectGarbageResponse) -> None:
        """Puts it into the answer."""
        response.expired_runs.extend(self.runs)
        response.checkpoint_count = self.checkpoint_count


async def expire(tx: Transaction, policy: Policy, *, now: datetime) -> Expired:
    """Deletes archived runs that have ended, as DeleteRuns does, and removes the records of checkpoints."""
    runs = await _expired_runs(tx, now - policy.archived) if policy.archived is not None else []
    for first in range(0, len(runs), run_changes.MAX_NAMES):
        await run_changes.delete(tx, runs[first : first + run_changes.MAX_NAMES], now=now)
    removed = 0
    if policy.checkpoints is not None:
        removed = await tx.execute(
            "DELETE FROM artifacts a USING jobs j WHERE a.kind = 'checkpoint' AND j.name = a.owner"
            " AND j.state = %(succeeded)s AND j.end_time <= %(before)s",
            succeeded=int(State.SUCCEEDED),
            before=now - policy.checkpoints,
        )
    return Expired(tuple(runs), removed)


async def _expired_runs(tx: Transaction, before: datetime) -> list[str]:
    rows = await tx.all(
        "SELECT r.name FROM runs r JOIN jobs j USING (name) WHERE r.archive_time <= %(before)s"
        " AND r.delete_time IS NULL AND j.state = ANY(%(terminal)s::smallint[]) ORDER BY r.number",
        before=before,
        terminal=_TERMINAL,
    )
    return [row["name"] for row in rows]
