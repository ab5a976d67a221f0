"""`runs show`, `watch`, `logs`, `samples`, `artifacts` and `cancel`, and the rest of the group `runs`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tunix_rt.standalone import run_change_commands as changes
from tunix_rt.standalone.connection import CALL_SECONDS, Connection, connect
from tunix_rt.standalone.curve_commands import curves
from tunix_rt.standalone.follow import watch_run
from tunix_rt.standalone.options import GatewayOption, JsonOption
from tunix_rt.standalone.output import console, errors, message_dict, print_json
from tunix_rt.standalone.resources import run_name
from tunix_rt.standalone.run_display import follow_run
from tunix_rt.standalone.run_list_commands import export, list_runs
from tunix_rt.standalone.run_promotion import promote
from tunix_rt.standalone.run_records import (
    artifact_table,
    list_artifacts,
    log_lines,
    read_samples,
    sample_table,
)
from tunix_rt.standalone.transfers import download_files
from tunix_rt.standalone.views import duration_text, fields_table, number_text, state_text
from tunix_rt.v1 import job_pb2 as job_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1 import run_pb2 as run_pb
from tunix_rt.v1 import trainer_service_pb2 as trainer_pb

app = typer.Typer(
    help="List, show, watch, change and cancel training runs; read what they left.",
    no_args_is_help=True,
)
app.command()(curves)
RunArgument = Annotated[str, typer.Argument(help="The run.", metavar="RUN")]


_COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_runs,
    "export": export,
    "update": changes.update,
    "archive": changes.archive,
    "unarchive": changes.unarchive,
    "delete": changes.delete,
    "restore": changes.restore,
    "gc": changes.collect_garbage,
    "promote": promote,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


@app.command()
def show(run: RunArgument, *, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Show a run: state, figures, spec."""
    with connect(gateway) as connection:
        request = registry_pb.GetRunRequest(name=run_name(run))
        found = connection.registry.GetRun(request, timeout=CALL_SECONDS)
    if json:
        print_json(found)
    else:
        print_run(found)
        if found.notes:
            console.print("\n[bold]Notes[/]")
            console.print(found.notes, markup=False)
        console.print("\n[bold]Spec[/]")
        console.print_json(data=message_dict(found.spec))


@app.command()
def watch(run: RunArgument, *, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Watch a run live until it has ended. Ctrl-C leaves it running."""
    with connect(gateway) as connection:
        name = run_name(run)
        if json:
            for event in watch_run(connection, name):
                print_json(event, line=True)
            return
        finish(follow_or_detach(connection, name))


@app.command()
def logs(
    run: RunArgument,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Print the log of a run, all attempts in order."""
    with connect(gateway) as connection:
        for line in log_lines(connection, run_name(run), follow=follow):
            if json:
                print_json(line, line=True)
            else:
                console.print(line.text, markup=False, soft_wrap=True)


@app.command()
def samples(
    run: RunArgument,
    *,
    step: Annotated[int | None, typer.Option("--step", help="Of this step. (default: the newest)")] = None,
    every_step: Annotated[bool, typer.Option("--all", help="Of all steps.")] = False,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Show how a run answered its fixed prompts on the way."""
    with connect(gateway) as connection:
        found = read_samples(connection, run_name(run), step=step, every_step=every_step)
    if json:
        print_json({"samples": found})
    elif found:
        console.print(sample_table(found))
    else:
        console.print("No samples. Ask for them with `tunix-rt train --sample-every STEPS`.")


@app.command()
def artifacts(
    run: RunArgument,
    *,
    kind: Annotated[str, typer.Option("--kind", help="Only checkpoint, model, samples or profile.")] = "",
    download: Annotated[
        Path | None, typer.Option("--download", help="Fetch them into this folder, one folder each.")
    ] = None,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """List what a run has stored, and fetch it."""
    with connect(gateway) as connection:
        found = list_artifacts(connection, run_name(run), kind)
        if download:
            for artifact in found:
                folder = download / artifact.kind / (f"{artifact.step:08}" if artifact.step else "")
                download_files(connection.registry, artifact.files, folder, advance=lambda _: None)
    if json:
        print_json(registry_pb.ListArtifactsResponse(artifacts=found))
    elif found:
        console.print(artifact_table(found))
    else:
        console.print("No artifacts yet.")


@app.command()
def cancel(run: RunArgument, *, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Ask a run to stop: a queued one at once, a running one after it has saved."""
    with connect(gateway) as connection:
        request = trainer_pb.CancelRunRequest(name=run_name(run))
        found = connection.trainer.CancelRun(request, timeout=CALL_SECONDS)
    if json:
        print_json(found)
    else:
        console.print(f"{found.name}:", state_text(found.status))


def follow_or_detach(connection: Connection, name: str, *, quiet: bool = False) -> run_pb.Run:
    """Follows a run to its end; on Ctrl-C says how to go on and leaves it running."""
    try:
        return follow_run(connection, name, quiet=quiet)
    except KeyboardInterrupt:
        short = name.removeprefix("runs/")
        errors.print(
            f"{name} goes on. Watch it with `tunix-rt runs watch {short}`, "
            f"stop it with `tunix-rt runs cancel {short}`.",
            markup=False,
        )
        raise typer.Exit(0) from None


def finish(run: run_pb.Run) -> None:
    """Prints how a run ended; exits with 1 unless it succeeded."""
    print_run(run)
    if run.status.state != job_pb.JOB_STATE_SUCCEEDED:
        raise typer.Exit(1)


def print_run(run: run_pb.Run) -> None:
    """Prints the state and the figures of a run."""
    metrics = {summary.metric: summary for summary in run.metrics}
    status = run.status
    rows = [
        ("state", state_text(status)),
        ("error", status.error.message),
        ("step", f"{status.progress}/{status.progress_total or '?'}"),
        ("attempt", f"{status.attempt} of {status.max_attempts}" if status.attempt else ""),
        ("model", run.spec.model),
        ("dataset", run.spec.dataset),
        ("description", run.description),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(run.labels.items()))),
        ("tags", ", ".join(run.tags)),
        ("parent", run.parent),
        ("sweep", run.sweep),
    ]
    if status.HasField("end_time") and status.HasField("start_time"):
        seconds = (status.end_time.ToNanoseconds() - status.start_time.ToNanoseconds()) / 1e9
        rows.append(("took", duration_text(seconds)))
    for name in ("train/loss", "validation/loss", "train/tokens_per_second"):
        if name in metrics:
            summary = metrics[name]
            low, high = number_text(summary.min), number_text(summary.max)
            rows.append((name, f"{number_text(summary.last)} (from {low} to {high})"))
    rows += [("weights", run.weights_digest), ("evaluations", ", ".join(run.evaluations))]
    console.print(f"[bold]{run.name}[/]")
    console.print(fields_table([(label, value) for label, value in rows if value]))
