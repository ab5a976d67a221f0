"""Rows to protos."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.jobs.parameters import spec_values
from tunix_rt.registry.database import Row
from tunix_rt.registry.lifecycle import State
from tunix_rt.v1 import evaluation_pb2, job_pb2, job_service_pb2, run_pb2

JOB_COLUMNS = (
    "name, kind, state, attempt, released, max_attempts, worker, lease_expire_time, cancel_requested,"
    " progress, progress_total, spec, description, labels, error, dataset, create_time, start_time, end_time"
)


def timestamp(moment: datetime) -> Timestamp:
    """The proto of a moment."""
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def job_status(row: Row) -> job_pb2.JobStatus:
    """The life of a job; `error` only if it has failed."""
    status = job_pb2.JobStatus(
        state=row["state"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        worker=row["worker"],
        cancel_requested=row["cancel_requested"],
        progress=row["progress"],
        progress_total=row["progress_total"],
        create_time=timestamp(row["create_time"]),
    )
    if row["state"] == State.FAILED and row["error"] is not None:
        status.error.MergeFromString(row["error"])
    if row["start_time"]:
        status.start_time.CopyFrom(timestamp(row["start_time"]))
    if row["end_time"]:
        status.end_time.CopyFrom(timestamp(row["end_time"]))
    return status


def job(row: Row) -> job_service_pb2.Job:
    """A job as workers see it."""
    made = job_service_pb2.Job.FromString(row["labels"])
    made.name = row["name"]
    made.description = row["description"].decode()
    made.status.CopyFrom(job_status(row))
    if row["kind"] == "run":
        made.run.MergeFromString(row["spec"])
    else:
        made.evaluation.MergeFromString(row["spec"])
    if row["lease_expire_time"] and row["state"] == State.RUNNING:
        made.lease_expire_time.CopyFrom(timestamp(row["lease_expire_time"]))
    return made


def run(row: Row, metrics: Iterable[Row], evaluations: Iterable[str]) -> run_pb2.Run:
    """A run from its job row joined with `runs`, its summaries and its evaluations."""
    made = run_pb2.Run(
        name=row["name"],
        spec=run_pb2.RunSpec.FromString(row["spec"]),
        status=job_status(row),
        metrics=[summary(each) for each in metrics],
        model_artifact=row["model_artifact"],
        weights_digest=row["weights_digest"],
        evaluations=evaluations,
        description=row["description"].decode(),
        labels=job_service_pb2.Job.FromString(row["labels"]).labels,
        notes=row["notes"].decode(),
        tags=row["tags"],
        parent=row["parent"],
        sweep=row["sweep"],
    )
    if row["facts"]:
        made.facts.CopyFrom(Struct.FromString(row["facts"]))
    for name in ("archive_time", "delete_time"):
        if row[name]:
            getattr(made, name).CopyFrom(timestamp(row[name]))
    return made


def add_parameters(run: run_pb2.Run, paths: Iterable[str] | None) -> None:
    """Adds the values of the spec by path: all, or of the given paths those that it has."""
    values = spec_values(run.spec)
    for path in values if paths is None else paths:
        if path in values:
            run.parameters[path] = values[path]


def summary(row: Row) -> run_pb2.MetricSummary:
    """The summary of a metric."""
    return run_pb2.MetricSummary(
        metric=row["metric"],
        last=row["last"],
        last_step=row["last_step"],
        min=row["min"],
        min_step=row["min_step"],
        max=row["max"],
        max_step=row["max_step"],
        count=row["count"],
    )


def evaluation(row: Row) -> evaluation_pb2.Evaluation:
    """An evaluation from its job row joined with `evaluations`."""
    made = evaluation_pb2.Evaluation(
        name=row["name"],
        spec=evaluation_pb2.EvaluationSpec.FromString(row["spec"]),
        status=job_status(row),
        run=row["run"],
        dataset_sha256=row["dataset_sha256"],
        weights_digest=row["weights_digest"],
        labels=job_service_pb2.Job.FromString(row["labels"]).labels,
    )
    if row["result"] is not None:
        made.result.MergeFromString(row["result"])
    return made
