"""Writes what became of a job."""

from __future__ import annotations

from datetime import datetime

from google.rpc import status_pb2

from tunix_rt.registry import run_values
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.lifecycle import Move, State
from tunix_rt.rpc.errors import Internal, Reason
from tunix_rt.rpc.status import to_status

_STATES = {
    Move.REQUEUE: State.QUEUED,
    Move.RELEASE: State.QUEUED,
    Move.SUCCEED: State.SUCCEEDED,
    Move.FAIL: State.FAILED,
    Move.EXHAUST: State.FAILED,
    Move.CANCEL: State.CANCELLED,
}


async def apply_move(
    tx: Transaction, row: Row, move: Move, *, error: status_pb2.Status | None, now: datetime
) -> None:
    """Writes the state that a move leads to; the caller holds the lock of the job."""
    state = _STATES[move]
    await tx.execute(
        "UPDATE jobs SET state = %(state)s, error = coalesce(%(error)s::bytea, error),"
        " lease_expire_time = NULL, released = released + %(released)s,"
        " cancel_requested = cancel_requested OR %(cancelled)s,"
        " end_time = CASE WHEN %(terminal)s THEN %(now)s::timestamptz END WHERE name = %(name)s",
        state=int(state),
        error=error.SerializeToString() if error else None,
        released=int(move is Move.RELEASE),
        cancelled=move is Move.CANCEL,
        terminal=state.terminal,
        now=now,
        name=row["name"],
    )
    if state.terminal and row["kind"] == "run":
        await run_values.settle(tx, row["name"])


def exhausted(row: Row, error: status_pb2.Status | None = None) -> status_pb2.Status:
    """The error of a job without attempts left; the last failure stands in the message."""
    last = error or (status_pb2.Status.FromString(row["error"]) if row["error"] is not None else None)
    cause = f" The last one failed: {last.message}" if last else " The last one lost its worker."
    spent = row["attempt"] - row["released"]
    return to_status(
        Internal(
            Reason.ATTEMPTS_EXHAUSTED,
            f"`{row['name']}` has used its {spent} of {row['max_attempts']} attempts.{cause}",
            {"resource": row["name"], "attempts": spent},
        )
    )
