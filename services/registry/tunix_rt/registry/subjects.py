"""What is evaluated and trained from: model versions, and runs with their final weights."""

from __future__ import annotations

from tunix_rt.registry.database import Transaction
from tunix_rt.registry.lifecycle import State
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import FailedPrecondition, NotFound, Reason


async def weights_digest(tx: Transaction, subject: str) -> str:
    """The digest of the weights of a model version or a succeeded run; empty for an endpoint.

    Raises NotFound, FailedPrecondition with reason RUN_NOT_FINISHED.
    """
    if names.matches(subject, names.ENDPOINT):
        return ""  # only the evaluator knows the endpoints
    if subject.startswith("models/"):
        row = await tx.one("SELECT digest FROM model_versions WHERE name = %(name)s", name=subject)
        if row is None:
            raise NotFound(subject)
        return str(row["digest"])
    row = await tx.one(
        "SELECT j.state, r.weights_digest FROM jobs j JOIN runs r USING (name) WHERE name = %(name)s",
        name=subject,
    )
    if row is None:
        raise NotFound(subject)
    if row["state"] != State.SUCCEEDED:
        raise FailedPrecondition(
            Reason.RUN_NOT_FINISHED,
            f"Run `{subject}` is {State(row['state']).name} and has no final weights."
            " Wait until it has SUCCEEDED, or use another run.",
            {"resource": subject, "state": State(row["state"]).name},
        )
    return str(row["weights_digest"])


async def require_not_deleted(tx: Transaction, subject: str) -> None:
    """Raises FailedPrecondition, reason RUN_DELETED, for a deleted run."""
    row = await tx.one(
        "SELECT 1 AS one FROM runs WHERE name = %(name)s AND delete_time IS NOT NULL", name=subject
    )
    if row:
        raise FailedPrecondition(
            Reason.RUN_DELETED,
            f"Run `{subject}` is deleted. Restore it with UndeleteRuns, or use another run.",
            {"resource": subject},
        )
