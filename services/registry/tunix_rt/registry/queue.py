"""The queue of jobs: claim, renew, cancel, and who holds a lease."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from google.protobuf.struct_pb2 import Struct

from tunix_rt.registry import messages
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.lifecycle import Life, Move, State, on_cancel, on_claim
from tunix_rt.registry.moves import apply_move, exhausted
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import Aborted, InvalidArgument, NotFound, Reason, Violation
from tunix_rt.v1 import job_service_pb2

DEFAULT_LEASE_SECONDS = 30.0
MAX_LEASE_SECONDS = 600.0
JOB_NAMES = {"run": names.RUN, "evaluation": names.EVALUATION}


@dataclass(frozen=True)
class Claim:
    """What a look into the queue gave.

    `changed` are jobs that ended instead of being claimed. `next_expiry` is when the next lease runs out.
    """

    job: job_service_pb2.Job | None
    changed: tuple[str, ...]
    next_expiry: datetime | None


def job_name(name: str, field: str = "name") -> str:
    """The name itself. Raises InvalidArgument unless it names a run or an evaluation."""
    violation = names.check_any(name, tuple(JOB_NAMES.values()), field)
    if violation:
        raise InvalidArgument([violation])
    return name


def lease_of(request: job_service_pb2.ClaimJobRequest | job_service_pb2.RenewLeaseRequest) -> timedelta:
    """The lease that a worker asks for. Raises InvalidArgument outside `[1, 600]` seconds."""
    if not request.HasField("lease"):
        return timedelta(seconds=DEFAULT_LEASE_SECONDS)
    seconds = request.lease.seconds + request.lease.nanos / 1e9
    if not 1 <= seconds <= MAX_LEASE_SECONDS:
        raise InvalidArgument.of("lease", f"is {seconds:g} s; it must be from 1 to {MAX_LEASE_SECONDS:g} s.")
    return timedelta(seconds=seconds)


def claim_violations(request: job_service_pb2.ClaimJobRequest) -> list[Violation]:
    """What is wrong with a claim, apart from its durations."""
    found = []
    if request.kind not in JOB_NAMES:
        found.append(Violation("kind", f"is `{request.kind[:80]}`; it must be `run` or `evaluation`."))
    if not request.worker or len(request.worker) > 200 or not request.worker.isprintable():
        found.append(Violation("worker", "is required: printable, at most 200 characters, unique."))
    return found


async def get(tx: Transaction, name: str) -> job_service_pb2.Job:
    """A job. Raises NotFound."""
    row = await tx.one(f"SELECT {messages.JOB_COLUMNS} FROM jobs WHERE name = %(name)s", name=name)
    if row is None:
        raise NotFound(name)
    return messages.job(row)


async def claim(tx: Transaction, kind: str, worker: str, *, lease: timedelta, now: datetime) -> Claim:
    """Gives a worker the oldest job that is queued or whose lease has ended, its own first.

    Jobs without attempts left, or that were asked to stop, end on the way.
    """
    changed: list[str] = []
    while (row := await _candidate(tx, kind, worker, now)) is not None:
        move = on_claim(life(row), worker, now)
        if move is Move.START:
            started = await _start(tx, row["name"], worker, lease, now)
            return Claim(messages.job(started), (*changed, row["name"]), None)
        error = exhausted(row) if move is Move.EXHAUST else None
        await apply_move(tx, row, move, error=error, now=now)
        changed.append(row["name"])
    soonest = await tx.one(
        "SELECT min(lease_expire_time) AS moment FROM jobs WHERE kind = %(kind)s AND state = 2", kind=kind
    )
    return Claim(None, tuple(changed), soonest["moment"] if soonest else None)


async def renew(
    tx: Transaction, request: job_service_pb2.RenewLeaseRequest, *, now: datetime
) -> job_service_pb2.RenewLeaseResponse:
    """Prolongs a lease, also one that has run out if nobody else has claimed the job since."""
    row = await hold(tx, job_name(request.name), request.attempt, strength="NO KEY UPDATE")
    await tx.execute(
        "UPDATE jobs SET lease_expire_time = %(expiry)s, progress = greatest(progress, %(progress)s),"
        " progress_total = CASE WHEN %(total)s > 0 THEN %(total)s ELSE progress_total END"
        " WHERE name = %(name)s",
        expiry=now + lease_of(request),
        progress=request.progress,
        total=request.progress_total,
        name=request.name,
    )
    if request.facts.fields:
        await _merge_facts(tx, request.name, request.facts)
    if request.weights_digest:
        await tx.execute(
            "UPDATE evaluations SET weights_digest = %(digest)s WHERE name = %(name)s",
            digest=request.weights_digest,
            name=request.name,
        )
    return job_service_pb2.RenewLeaseResponse(cancel_requested=row["cancel_requested"])


async def cancel(tx: Transaction, name: str, *, now: datetime) -> job_service_pb2.Job:
    """Asks a job to stop; one that nobody works on stops at once, one that has ended stays as it is."""
    row = await lock(tx, job_name(name))
    move = on_cancel(life(row), now)
    if move is Move.ASK_TO_STOP:
        await tx.execute("UPDATE jobs SET cancel_requested = true WHERE name = %(name)s", name=name)
    elif move is Move.CANCEL:
        await apply_move(tx, row, move, error=None, now=now)
    return await get(tx, name)


async def count(tx: Transaction) -> job_service_pb2.CountJobsResponse:
    """The jobs by kind and state."""
    rows = await tx.all("SELECT kind, state, count(*) AS count FROM jobs GROUP BY 1, 2 ORDER BY 1, 2")
    made = job_service_pb2.CountJobsResponse()
    for row in rows:
        made.counts.add(kind=row["kind"], state=row["state"], count=row["count"])
    return made


async def lock(tx: Transaction, name: str) -> Row:
    """The row of a job, locked until the end of the transaction. Raises NotFound."""
    row = await tx.one(
        f"SELECT {messages.JOB_COLUMNS}, finished_attempt, finished_digest FROM jobs"
        " WHERE name = %(name)s FOR UPDATE",
        name=name,
    )
    if row is None:
        raise NotFound(name)
    return row


async def hold(tx: Transaction, name: str, attempt: int, *, strength: str = "SHARE") -> Row:
    """The row of a job, kept until the end of the transaction from being claimed by another.

    With SHARE several streams of one attempt may write at once; who changes the row asks for NO KEY UPDATE.
    Raises Aborted, reason LEASE_LOST, unless the attempt is the one that runs.
    """
    row = await tx.one(
        f"SELECT {messages.JOB_COLUMNS}, finished_attempt, finished_digest FROM jobs"
        f" WHERE name = %(name)s FOR {strength}",
        name=name,
    )
    if row is None:
        raise NotFound(name)
    if row["state"] != State.RUNNING or row["attempt"] != attempt:
        raise lease_lost(row, attempt)
    return row


def lease_lost(row: Row, attempt: int) -> Aborted:
    """The error for a worker whose attempt is not the one that runs."""
    state = State(row["state"]).name
    return Aborted(
        Reason.LEASE_LOST,
        f"Attempt {attempt} does not hold the lease of `{row['name']}`, which is {state} at attempt"
        f" {row['attempt']}. Stop working on it.",
        {"resource": row["name"], "attempt": attempt, "current_attempt": row["attempt"], "state": state},
    )


def life(row: Row) -> Life:
    """What decides about a job."""
    return Life(
        state=State(row["state"]),
        attempt=row["attempt"],
        released=row["released"],
        max_attempts=row["max_attempts"],
        cancel_requested=row["cancel_requested"],
        worker=row["worker"],
        lease_expire_time=row["lease_expire_time"],
    )


async def _candidate(tx: Transaction, kind: str, worker: str, now: datetime) -> Row | None:
    own = await tx.one(
        f"SELECT {messages.JOB_COLUMNS} FROM jobs WHERE state = 2 AND worker = %(worker)s AND kind = %(kind)s"
        " LIMIT 1 FOR UPDATE SKIP LOCKED",
        kind=kind,
        worker=worker,
    )
    return own or await tx.one(
        f"SELECT {messages.JOB_COLUMNS} FROM jobs WHERE kind = %(kind)s AND state IN (1, 2)"
        " AND (state = 1 OR lease_expire_time <= %(now)s)"
        " ORDER BY queue_order LIMIT 1 FOR UPDATE SKIP LOCKED",
        kind=kind,
        now=now,
    )


async def _start(tx: Transaction, name: str, worker: str, lease: timedelta, now: datetime) -> Row:
    row = await tx.one(
        "UPDATE jobs SET state = 2, attempt = attempt + 1, worker = %(worker)s,"
        " lease_expire_time = %(expiry)s, start_time = coalesce(start_time, %(now)s) WHERE name = %(name)s"
        f" RETURNING {messages.JOB_COLUMNS}",
        worker=worker,
        expiry=now + lease,
        now=now,
        name=name,
    )
    assert row is not None
    return row


async def _merge_facts(tx: Transaction, name: str, facts: Struct) -> None:
    row = await tx.one("SELECT facts FROM runs WHERE name = %(name)s", name=name)
    if row is None:
        raise InvalidArgument.of("facts", f"are kept for runs only, not for `{name}`.")
    merged = Struct.FromString(row["facts"])
    for key, value in facts.fields.items():
        merged.fields[key].CopyFrom(value)
    await tx.execute(
        "UPDATE runs SET facts = %(facts)s WHERE name = %(name)s",
        facts=merged.SerializeToString(),
        name=name,
    )
