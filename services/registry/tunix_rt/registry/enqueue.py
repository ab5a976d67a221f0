"""New jobs: checked, written with the row of their resource, and queued."""

from __future__ import annotations

from datetime import datetime

from tunix_rt.jobs.evaluation_spec import complete_evaluation
from tunix_rt.jobs.run_fields import run_field_violations
from tunix_rt.registry import messages, queue, requests, run_index, runs, specs, tasks
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.lifecycle import State
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import AlreadyExists, InvalidArgument, Violation
from tunix_rt.v1 import evaluation_pb2, job_service_pb2

DEFAULT_MAX_ATTEMPTS = 5
MAX_JOB_BYTES = 256 * 1024
_ID_PREFIXES = {"run": "run", "evaluation": "eval"}


async def enqueue(
    tx: Transaction, request: job_service_pb2.EnqueueJobRequest, *, now: datetime
) -> job_service_pb2.Job:
    """Queues a job whose spec is complete, but for what the tasks of its evaluations fill in."""
    kind = _kind(request)
    if made := await requests.recall(tx, request.request_id, request):
        return await queue.get(tx, made)
    job = request.job
    name = job.name
    if name.endswith("/"):
        name += names.new_id(_ID_PREFIXES[kind])
    if kind == "run":
        after = enumerate(job.run.evaluate_after)
        await tasks.fill_in_all(tx, ((f"job.run.evaluate_after[{index}]", each) for index, each in after))
        await specs.check_run(tx, job.run, "job.run")
        if job.parent:
            await runs.require(tx, job.parent, "job.parent")
    else:
        await tasks.fill_in_all(tx, [("job.evaluation", job.evaluation)])
        await specs.check_evaluation(tx, job.evaluation, "job.evaluation")
    row = await insert(tx, kind, name, job, now=now)
    await requests.remember(tx, request.request_id, name)
    return messages.job(row)


async def insert(
    tx: Transaction, kind: str, name: str, job: job_service_pb2.Job, *, now: datetime, run: str = ""
) -> Row:
    """Writes a queued job with the row of its resource. Raises AlreadyExists."""
    spec = job.run if kind == "run" else complete_evaluation(job.evaluation)
    row = await tx.one(
        "INSERT INTO jobs (name, kind, state, max_attempts, spec, description, labels, dataset, create_time)"
        " VALUES (%(name)s, %(kind)s, %(state)s, %(max_attempts)s, %(spec)s, %(description)s, %(labels)s,"
        f" %(dataset)s, %(now)s) ON CONFLICT DO NOTHING RETURNING {messages.JOB_COLUMNS}",
        name=name,
        kind=kind,
        state=int(State.QUEUED),
        max_attempts=DEFAULT_MAX_ATTEMPTS,
        spec=spec.SerializeToString(),
        description=job.description.encode(),
        labels=job_service_pb2.Job(labels=job.labels).SerializeToString(),
        dataset=spec.dataset,
        now=now,
    )
    if row is None:
        raise AlreadyExists(name, f"`{name}` exists. Choose another id, or leave it empty.")
    if isinstance(spec, evaluation_pb2.EvaluationSpec):
        await _insert_evaluation(tx, name, spec, run)
    else:
        await _insert_run(tx, name, job)
    return row


def _kind(request: job_service_pb2.EnqueueJobRequest) -> str:
    job = request.job
    violations = [requests.check_request_id(request.request_id)]
    kind = job.WhichOneof("spec") or ""
    if not kind:
        violations.append(Violation("job.spec", "is required. Give `run` or `evaluation`."))
    elif job.name != queue.JOB_NAMES[kind].split("{")[0]:
        violations.append(names.check(job.name, queue.JOB_NAMES[kind], "job.name"))
    for field in ("status", "lease_expire_time"):
        if job.HasField(field):
            violations.append(Violation(f"job.{field}", "is output only; leave it out."))
    if kind == "run":
        violations += run_field_violations(job, "job.")
    violations += [
        Violation(f"job.{field}", "is set, but only runs have it; leave it out.")
        for field in ("notes", "tags", "parent", "sweep")
        if kind != "run" and getattr(job, field)
    ]
    if job.ByteSize() > MAX_JOB_BYTES:
        violations.append(Violation("job", f"has {job.ByteSize()} bytes; at most {MAX_JOB_BYTES}."))
    bad = [each for each in violations if each]
    if bad:
        raise InvalidArgument(bad)
    return kind


async def _insert_run(tx: Transaction, name: str, job: job_service_pb2.Job) -> None:
    row = await tx.one(
        "INSERT INTO runs"
        " (name, number, create_time, dataset, model, sweep, parent, tags, notes, search_text)"
        " SELECT name, queue_order, create_time, dataset, %(model)s, %(sweep)s, %(parent)s, %(tags)s::text[],"
        " %(notes)s, %(text)s FROM jobs WHERE name = %(name)s RETURNING number",
        name=name,
        model=job.run.model,
        sweep=job.sweep,
        parent=job.parent,
        tags=sorted(job.tags),
        notes=job.notes.encode(),
        text=run_index.search_text(name, job.description),
    )
    assert row is not None
    await run_index.insert(tx, row["number"], job.run, job.labels)


async def _insert_evaluation(
    tx: Transaction, name: str, spec: evaluation_pb2.EvaluationSpec, run: str
) -> None:
    dataset = await specs.check_evaluation(tx, spec, "job.evaluation")
    await tx.execute(
        "INSERT INTO evaluations (name, subject, run, dataset_sha256, board)"
        " VALUES (%(name)s, %(subject)s, %(run)s, %(sha256)s, %(board)s)",
        name=name,
        subject=spec.subject,
        run=run,
        sha256=dataset.sha256,
        board=specs.board_key(spec, dataset.sha256),
    )
