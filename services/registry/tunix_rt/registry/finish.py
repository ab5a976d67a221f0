"""The end of an attempt: checked, written once, acknowledged as often as it is told."""

from __future__ import annotations

import hashlib
from datetime import datetime

from google.rpc import status_pb2

from tunix_rt.jobs.evaluation_spec import complete_evaluation
from tunix_rt.registry import enqueue, messages, queue, subjects
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.lifecycle import Move, Outcome, State, on_finish
from tunix_rt.registry.moves import apply_move, exhausted
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.v1 import evaluation_pb2, job_service_pb2, run_pb2


async def finish(
    tx: Transaction, request: job_service_pb2.FinishJobRequest, *, now: datetime
) -> job_service_pb2.Job:
    """Ends an attempt and queues what is to follow.

    The same end of the same attempt is acknowledged again. Raises Aborted, reason LEASE_LOST.
    """
    row = await queue.lock(tx, queue.job_name(request.name))
    digest = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
    if (row["finished_attempt"], row["finished_digest"]) == (request.attempt, digest):
        return messages.job(row)
    if row["state"] != State.RUNNING or row["attempt"] != request.attempt:
        raise queue.lease_lost(row, request.attempt)
    outcome = _outcome(request, row)
    if outcome is Outcome.RESULT:
        await (_keep_run(tx, request) if row["kind"] == "run" else _keep_evaluation(tx, request, row))
    move = on_finish(queue.life(row), outcome)
    await apply_move(tx, row, move, error=_error(request, row, move), now=now)
    await tx.execute(
        "UPDATE jobs SET finished_attempt = %(attempt)s, finished_digest = %(digest)s WHERE name = %(name)s",
        attempt=request.attempt,
        digest=digest,
        name=request.name,
    )
    if move is Move.SUCCEED and row["kind"] == "run":
        await _queue_evaluations(tx, row, now)
    return await queue.get(tx, request.name)


def _outcome(request: job_service_pb2.FinishJobRequest, row: Row) -> Outcome:
    kind = request.WhichOneof("outcome")
    if kind == "error":
        if not request.error.message:
            raise InvalidArgument.of("error.message", "is required; it says why the job failed.")
        return Outcome.RETRYABLE_ERROR if request.retryable else Outcome.ERROR
    if kind == "released":
        return Outcome.RELEASED
    if kind == "cancelled":
        if not row["cancel_requested"]:
            raise InvalidArgument.of("cancelled", "is set, but nobody asked the job to stop.")
        return Outcome.CANCELLED
    if kind != row["kind"]:
        found = f"is `{kind}`" if kind else "is missing"
        raise InvalidArgument.of("outcome", f"{found}; give `{row['kind']}`, or how else the attempt ended.")
    return Outcome.RESULT


def _error(request: job_service_pb2.FinishJobRequest, row: Row, move: Move) -> status_pb2.Status | None:
    given = request.error if request.WhichOneof("outcome") == "error" else None
    return exhausted(row, given) if move is Move.EXHAUST else given


async def _keep_run(tx: Transaction, request: job_service_pb2.FinishJobRequest) -> None:
    field, artifact = "run.model_artifact", request.run.model_artifact
    names.require(artifact, names.ARTIFACT, field)
    row = await tx.one("SELECT kind, owner, digest FROM artifacts WHERE name = %(name)s", name=artifact)
    if row is None or row["kind"] != "model" or row["owner"] != request.name:
        text = f"is `{artifact}`; it must be an artifact of kind `model` that `{request.name}` has recorded."
        raise InvalidArgument.of(field, text)
    await tx.execute(
        "UPDATE runs SET model_artifact = %(artifact)s, weights_digest = %(digest)s WHERE name = %(name)s",
        artifact=artifact,
        digest=row["digest"],
        name=request.name,
    )


async def _keep_evaluation(tx: Transaction, request: job_service_pb2.FinishJobRequest, job: Row) -> None:
    result = request.evaluation
    spec = evaluation_pb2.EvaluationSpec.FromString(job["spec"])
    samples = spec.samples or 1
    stored = await tx.one(
        "SELECT count(*) AS outputs, count(DISTINCT trace_id) AS items FROM item_scores"
        " WHERE evaluation = %(name)s",
        name=request.name,
    )
    assert stored is not None
    count = result.score.count
    if count < 1 or (count, count * samples) != (stored["items"], stored["outputs"]):
        text = (
            f"is {count}, but the scores of {stored['outputs']} outputs of {stored['items']} items are stored"
            f" at {samples} an item. Record them all first."
        )
        raise InvalidArgument.of("evaluation.score.count", text)
    if not 0 <= result.score.low <= result.score.mean <= result.score.high <= 1:
        raise InvalidArgument.of("evaluation.score", "must have 0 <= low <= mean <= high <= 1.")
    row = await tx.one("SELECT weights_digest FROM evaluations WHERE name = %(name)s", name=request.name)
    assert row is not None
    known = row["weights_digest"] or spec.predictions
    await tx.execute(
        "UPDATE evaluations SET result = %(result)s, weights_digest = %(digest)s WHERE name = %(name)s",
        result=result.SerializeToString(),
        digest=known or await subjects.weights_digest(tx, spec.subject),
        name=request.name,
    )


async def _queue_evaluations(tx: Transaction, row: Row, now: datetime) -> None:
    spec = run_pb2.RunSpec.FromString(row["spec"])
    for wanted in spec.evaluate_after:
        evaluation = complete_evaluation(wanted)
        evaluation.subject = row["name"]
        job = job_service_pb2.Job(evaluation=evaluation)
        name = f"evaluations/{names.new_id('eval')}"
        await enqueue.insert(tx, "evaluation", name, job, now=now, run=row["name"])
