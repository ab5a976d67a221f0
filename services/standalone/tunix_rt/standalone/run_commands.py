"""`runs list`, `show`, `curves`, `watch` and `cancel`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunix_rt.standalone.connection import CALL_SECONDS, Connection, connect
from tunix_rt.standalone.curve_commands import curves
from tunix_rt.standalone.follow import watch_run
from tunix_rt.standalone.options import GatewayOption, JsonOption, LimitOption
from tunix_rt.standalone.output import console, errors, message_dict, print_json
from tunix_rt.standalone.resources import dataset_name, run_name
from tunix_rt.standalone.run_display import follow_run
from tunix_rt.standalone.views import duration_text, fields_table, number_text, run_table, state_text
from tunix_rt.v1 import job_pb2 as job_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1 import run_pb2 as run_pb
from tunix_rt.v1 import trainer_service_pb2 as trainer_pb

app = typer.Typer(help="List, show, watch and cancel training runs.", no_args_is_help=True)
app.command()(curves)
RunArgument = Annotated[str, typer.Argument(help="The run.", metavar="RUN")]


@app.command("list")
def list_runs(
    *,
    limit: LimitOption = 50,
    dataset: Annotated[str, typer.Option("--dataset", help="Only runs on this dataset.")] = "",
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    request = registry_pb.ListRunsRequest(page_size=limit)
    request.dataset = dataset_name(dataset) if dataset else ""
    with connect(gateway) as connection:
        response = connection.registry.ListRuns(request, timeout=CALL_SECONDS)
    if json:
        print_json(response)
    elif response.runs:
        console.print(run_table(response.runs))
    else:
        console.print("No runs yet. `tunix-rt train --help` shows how to start one.")


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
