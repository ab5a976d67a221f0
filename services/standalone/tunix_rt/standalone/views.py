"""How resources look in the terminal: texts of values, tables of lists."""

from __future__ import annotations

import math
from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from tunix_rt.gateway.web.text import spec_text
from tunix_rt.standalone.output import new_table
from tunix_rt.v1 import dataset_pb2 as dataset_pb
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import job_pb2 as job_pb
from tunix_rt.v1 import model_pb2 as model_pb
from tunix_rt.v1 import run_pb2 as run_pb
from tunix_rt.v1 import task_pb2 as task_pb

_STATES = {
    job_pb.JOB_STATE_QUEUED: ("queued", "yellow"),
    job_pb.JOB_STATE_RUNNING: ("running", "cyan"),
    job_pb.JOB_STATE_SUCCEEDED: ("succeeded", "green"),
    job_pb.JOB_STATE_FAILED: ("failed", "red"),
    job_pb.JOB_STATE_CANCELLED: ("cancelled", "magenta"),
}
_STAGES = {
    model_pb.MODEL_STAGE_CANDIDATE: ("candidate", "cyan"),
    model_pb.MODEL_STAGE_PRODUCTION: ("production", "green"),
    model_pb.MODEL_STAGE_RETIRED: ("retired", "dim"),
}


def state_text(status: job_pb.JobStatus) -> Text:
    """The state of a job in its colour."""
    label, style = _STATES.get(status.state, (f"state {status.state}", ""))
    if status.cancel_requested and status.state == job_pb.JOB_STATE_RUNNING:
        label = "cancelling"
    return Text(label, style=style)


def score_text(score: evaluation_pb.Score) -> str:
    """A score in percent with its interval, such as `41.0 % [31.9, 50.8]`."""
    return f"{score.mean * 100:.1f} % [{score.low * 100:.1f}, {score.high * 100:.1f}]"


def number_text(value: float | None) -> str:
    """A number with four significant digits; `–` for None."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.2e}"


def probability_text(value: float) -> str:
    """A p-value, never rounded to 0."""
    return f"{value:.4f}" if value >= 1e-4 else f"{value:.1e}"


def duration_text(seconds: float) -> str:
    """A duration such as `42 s` or `3 min 05 s`."""
    whole = round(max(seconds, 0))
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02} s"


def size_text(size_bytes: int) -> str:
    """A number of bytes such as `538.1 MB`."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def time_text(moment: Timestamp) -> str:
    """A moment in local time."""
    return moment.ToDatetime().astimezone().strftime("%Y-%m-%d %H:%M") if moment.seconds else ""


def stage_text(version: model_pb.ModelVersion) -> Text:
    """The stage of a version in its colour; empty if it never had one."""
    label, style = _STAGES.get(version.stage, (f"stage {version.stage}", "")) if version.stage else ("", "")
    return Text(label + (" (gate overridden)" if version.gate_overridden else ""), style=style)


def dataset_table(datasets: Iterable[dataset_pb.Dataset]) -> Table:
    """Datasets as a table."""
    table = new_table("Dataset", "State", "Traces", "Splits", "SHA-256", "Source", "Created")
    for dataset in datasets:
        splits = ", ".join(f"{split.name} {split.trace_count}" for split in dataset.splits)
        state = dataset_pb.Dataset.State.Name(dataset.state).lower()
        table.add_row(
            dataset.name,
            Text(state, style="green" if dataset.state == dataset_pb.Dataset.SEALED else "yellow"),
            f"{dataset.trace_count}",
            splits,
            dataset.sha256[:12],
            dataset.source.generator,
            time_text(dataset.create_time),
        )
    return table


def model_table(versions: Iterable[model_pb.ModelVersion]) -> Table:
    """Model versions as a table."""
    table = new_table(
        "Model version", "Stage", "Aliases", "Architecture", "Parameters", "Size", "Digest", "From", "Created"
    )
    for version in versions:
        origin = version.provenance.fields["package"].string_value if version.HasField("provenance") else ""
        table.add_row(
            version.name,
            stage_text(version),
            ", ".join(version.aliases),
            version.architecture,
            f"{version.parameter_count:,}" if version.parameter_count else "",
            size_text(version.size_bytes),
            version.digest[:12],
            version.run or origin,
            time_text(version.create_time),
        )
    return table


def task_table(versions: Iterable[task_pb.TaskVersion]) -> Table:
    """Task versions as a table."""
    table = new_table("Task", "Dataset", "What is measured", "Description", "Created")
    for version in versions:
        table.add_row(
            version.name,
            version.spec.dataset,
            Text(spec_text(version.spec)),
            Text(version.description),
            time_text(version.create_time),
        )
    return table


def run_table(runs: Iterable[run_pb.Run]) -> Table:
    """Runs as a table."""
    table = new_table("Run", "State", "Step", "Loss", "Validation", "Model", "Dataset", "Created")
    for run in runs:
        metrics = {summary.metric: summary.last for summary in run.metrics}
        table.add_row(
            run.name,
            state_text(run.status),
            f"{run.status.progress}/{run.status.progress_total or run.spec.steps or '?'}",
            number_text(metrics.get("train/loss")),
            number_text(metrics.get("validation/loss")),
            run.spec.model,
            run.spec.dataset,
            time_text(run.status.create_time),
        )
    return table


def outcome_text(outcomes: evaluation_pb.OutcomeCounts) -> str:
    """The counts of the outcomes that occur, such as `41 correct, 59 wrong`."""
    counts = (
        (outcomes.correct, "correct"),
        (outcomes.wrong, "wrong"),
        (outcomes.no_answer, "without answer"),
        (outcomes.truncated, "truncated"),
        (outcomes.scored, "scored"),
        (outcomes.failed, "failed"),
    )
    return ", ".join(f"{count} {label}" for count, label in counts if count) or "none"


def fields_table(rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Names and values in two columns; values are shown as they are."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value) if isinstance(value, str) else value)
    return table
