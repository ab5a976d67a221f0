"""`runs list`, `export`, `update`, `archive`, `unarchive`, `delete`, `restore` and `gc`."""

from __future__ import annotations

import csv
import json as json_format
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, TextIO

import typer
from google.protobuf.duration_pb2 import Duration

from tunix_rt.jobs.parameters import spec_values
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.connection import CALL_SECONDS, LONG_CALL_SECONDS, connect
from tunix_rt.standalone.options import GatewayOption, JsonOption, LimitOption, parse_labels
from tunix_rt.standalone.output import console, message_dict, new_table, print_json
from tunix_rt.standalone.resources import dataset_name, run_name
from tunix_rt.standalone.run_query import (
    STATISTICS,
    Key,
    add_conditions,
    add_time,
    list_all,
    model_filter,
    project,
    sort_order,
    states_of,
)
from tunix_rt.standalone.spec_options import with_options_of
from tunix_rt.standalone.views import number_text, run_table, size_text
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1 import run_pb2 as run_pb

DAY_SECONDS = 86_400
_ALWAYS = ("name", "state", "created", "started", "ended", "description", "tags", "labels", "parent", "sweep")
Texts = list[str] | None
RunsArgument = Annotated[list[str], typer.Argument(help="The runs.", metavar="RUN...")]


def listing(
    *,
    dataset: Annotated[str, typer.Option("--dataset", help="Only runs on this dataset.")] = "",
    model: Annotated[
        Texts, typer.Option("--model", help="Only from this model or version; repeatable.")
    ] = None,
    state: Annotated[Texts, typer.Option("--state", help="Only in this state; repeatable.")] = None,
    label: Annotated[Texts, typer.Option("--label", help="Only with key=value, or key=; repeatable.")] = None,
    tag: Annotated[Texts, typer.Option("--tag", help="Only with this tag; repeatable.")] = None,
    sweep: Annotated[Texts, typer.Option("--sweep", help="Only of this sweep; repeatable.")] = None,
    parent: Annotated[str, typer.Option("--parent", help="Only children of this run.")] = "",
    text: Annotated[str, typer.Option("--text", help="Only with this in name or description.")] = "",
    since: Annotated[str, typer.Option("--since", help="Only created at this time or later.")] = "",
    before: Annotated[str, typer.Option("--before", help="Only created before this time.")] = "",
    where: Annotated[
        Texts,
        typer.Option(
            "--where",
            help="Only where this holds, such as 'validation/loss<=2', 'min:train/loss<1', "
            "'optimizer.learning_rate>=1e-4' or 'optimizer.decay=COSINE'; repeatable.",
        ),
    ] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Archived runs.")] = False,
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted runs.")] = False,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            help="By a metric or parameter, smallest first; after `-` largest first. Or created, -created.",
        ),
    ] = "-created",
) -> registry_pb.ListRunsRequest:
    """The request for a list."""
    if archived and deleted:
        raise InvalidArgument.of("archived", "is set beside `--deleted`; give one.")
    found = run_pb.RunFilter(
        states=states_of(state or []),
        models=[model_filter(each) for each in model or []],
        labels=parse_labels(label or []),
        tags=tag or [],
        sweeps=[each if "/" in each else f"sweeps/{each}" for each in sweep or []],
        parent=run_name(parent, "parent") if parent else "",
        text=text,
    )
    if archived or deleted:
        found.visibility = run_pb.RunFilter.ARCHIVED if archived else run_pb.RunFilter.DELETED
    add_conditions(found, where or [])
    add_time(found, "created_from", since, "since")
    add_time(found, "created_before", before, "before")
    return registry_pb.ListRunsRequest(
        filter=found, order=sort_order(sort), dataset=dataset_name(dataset) if dataset else ""
    )


@with_options_of(listing)
def list_runs(
    spec: registry_pb.ListRunsRequest,
    *,
    limit: LimitOption = 50,
    columns: Annotated[
        str, typer.Option("--columns", help="What to show, such as 'state,validation/loss,lora.rank'.")
    ] = "",
    count: Annotated[bool, typer.Option("--count", help="Say how many runs match.")] = False,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """List runs: newest first, or as --sort says."""
    keys = _keys(columns)
    if keys:
        project(spec, keys)
    spec.with_count, spec.page_size = count, limit
    with connect(gateway) as connection:
        response = connection.registry.ListRuns(spec, timeout=CALL_SECONDS)
        if response.next_page_token and len(response.runs) < limit:  # the page was full of bytes
            rest = registry_pb.ListRunsRequest()
            rest.CopyFrom(spec)
            rest.page_token = response.next_page_token
            response.runs.extend(list_all(connection, rest, limit - len(response.runs)))
    if json:
        print_json(response)
        return
    if not response.runs:
        console.print("No such runs. `tunix-rt train --help` shows how to start one.")
    elif keys:
        table = new_table("Run", *(key.text for key in keys))
        for run in response.runs:
            table.add_row(run.name, *(_cell(key.value(run)) for key in keys))
        console.print(table)
    else:
        console.print(run_table(response.runs))
    if count:
        console.print(f"{len(response.runs)} of {response.total_count} runs")


@with_options_of(listing)
def export(
    spec: registry_pb.ListRunsRequest,
    *,
    file_format: Annotated[str, typer.Option("--format", help="csv or jsonl.")] = "csv",
    columns: Annotated[
        str, typer.Option("--columns", help="The columns of the CSV; else all parameters and last values.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; else standard output.")
    ] = None,
    gateway: GatewayOption = None,
) -> None:
    """Write all runs that match as CSV or JSON lines."""
    if file_format not in ("csv", "jsonl"):
        raise InvalidArgument.of("format", f"is `{file_format}`; it must be csv or jsonl.")
    keys = _keys(columns)
    if keys:
        project(spec, keys)
    elif file_format == "csv":
        spec.parameters.append("*")
    with connect(gateway) as connection:
        runs = list_all(connection, spec)
        target: AbstractContextManager[TextIO] = (
            output.open("w", encoding="utf-8", newline="") if output else nullcontext(sys.stdout)
        )
        with target as file:
            if file_format == "jsonl":
                for run in runs:
                    file.write(json_format.dumps(message_dict(run), ensure_ascii=False) + "\n")
            else:
                _write_csv(file, runs, keys)


def update(
    run: Annotated[str, typer.Argument(help="The run.", metavar="RUN")],
    *,
    description: Annotated[str | None, typer.Option("--description")] = None,
    notes: Annotated[str | None, typer.Option("--notes", help="Markdown; @FILE reads a file.")] = None,
    label: Annotated[Texts, typer.Option("--label", help="key=value to set; repeatable.")] = None,
    remove_label: Annotated[Texts, typer.Option("--remove-label", help="A key; repeatable.")] = None,
    tag: Annotated[
        Texts, typer.Option("--tag", help="The tags, in place of the old ones; repeatable.")
    ] = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Remove all tags.")] = False,
    parent: Annotated[str | None, typer.Option("--parent", help="A run; empty removes it.")] = None,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Change what people wrote on a run; only what is given changes."""
    made = run_pb.Run(name=run_name(run), labels=parse_labels(label or []), tags=tag or [])
    paths = [f"labels.{key}" for key in [*made.labels, *(remove_label or [])]]
    if description is not None:
        made.description = description
        paths.append("description")
    if notes is not None:
        made.notes = read_notes(notes)
        paths.append("notes")
    if tag or no_tags:
        paths.append("tags")
    if parent is not None:
        made.parent = run_name(parent, "parent") if parent else ""
        paths.append("parent")
    request = registry_pb.UpdateRunRequest(run=made)
    request.update_mask.paths.extend(paths)
    with connect(gateway) as connection:
        changed = connection.registry.UpdateRun(request, timeout=CALL_SECONDS)
    if json:
        print_json(changed)
    else:
        console.print(f"{changed.name}: {', '.join(paths)} changed.", markup=False)


def archive(runs: RunsArgument, *, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Take runs out of the usual lists."""
    with connect(gateway) as connection:
        request = registry_pb.ArchiveRunsRequest(names=[run_name(run) for run in runs])
        _told(connection.registry.ArchiveRuns(request, timeout=CALL_SECONDS), "archived", json=json)


def unarchive(runs: RunsArgument, *, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Put archived runs back into the usual lists."""
    with connect(gateway) as connection:
        request = registry_pb.UnarchiveRunsRequest(names=[run_name(run) for run in runs])
        _told(
            connection.registry.UnarchiveRuns(request, timeout=CALL_SECONDS), "back in the lists", json=json
        )


def delete(runs: RunsArgument, *, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Delete runs that have ended; `runs restore` brings them back until `runs gc --remove`."""
    with connect(gateway) as connection:
        request = registry_pb.DeleteRunsRequest(names=[run_name(run) for run in runs])
        _told(connection.registry.DeleteRuns(request, timeout=CALL_SECONDS), "deleted", json=json)


def restore(runs: RunsArgument, *, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Restore deleted runs."""
    with connect(gateway) as connection:
        request = registry_pb.UndeleteRunsRequest(names=[run_name(run) for run in runs])
        _told(connection.registry.UndeleteRuns(request, timeout=CALL_SECONDS), "restored", json=json)


def collect_garbage(
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Remove it; else only say what it is.")] = False,
    min_age_days: Annotated[
        float, typer.Option("--min-age-days", min=0, help="Only what was deleted or stored so long ago.")
    ] = 7.0,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Show, or remove, what deleted runs leave and stored bytes that nothing names."""
    age = Duration()
    age.FromMilliseconds(round(min_age_days * DAY_SECONDS * 1000))
    request = registry_pb.CollectGarbageRequest(remove=remove, min_age=age)
    with connect(gateway) as connection:
        found = connection.registry.CollectGarbage(request, timeout=LONG_CALL_SECONDS)
    if json:
        print_json(found)
        return
    what = (
        f"{len(found.runs)} runs with {found.artifact_count} artifacts, and {found.blob_count} stored files"
        f" ({size_text(found.size_bytes)})"
    )
    console.print(f"{what} were removed." if remove else f"{what} would be removed by --remove.")
    for name in found.runs:
        console.print(f"  {name}", markup=False)


def read_notes(text: str) -> str:
    """The text itself, or what stands in the file after `@`. Raises InvalidArgument."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument.of("notes", f"is `{text}`, which cannot be read: {error}.") from error


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the group of runs."""
    commands: dict[str, Callable[..., None]] = {
        "list": list_runs,
        "export": export,
        "update": update,
        "archive": archive,
        "unarchive": unarchive,
        "delete": delete,
        "restore": restore,
        "gc": collect_garbage,
    }
    for name, command in commands.items():
        app.command(name)(command)


def _keys(columns: str) -> list[Key]:
    return [Key.parse(text.strip()) for text in columns.split(",") if text.strip()]


def _told(
    answer: registry_pb.ArchiveRunsResponse
    | registry_pb.UnarchiveRunsResponse
    | registry_pb.DeleteRunsResponse
    | registry_pb.UndeleteRunsResponse,
    what: str,
    *,
    json: bool,
) -> None:
    if json:
        print_json(answer)
        return
    for run in answer.runs:
        console.print(f"{run.name} is {what}.", markup=False)


def _cell(value: str | float | bool | None) -> str:
    if isinstance(value, str | bool):
        return str(value).lower() if isinstance(value, bool) else value
    return number_text(value)


def _write_csv(file: TextIO, runs: Iterable[run_pb.Run], keys: list[Key]) -> None:
    """Writes the columns asked for as the runs come; else all that any run has, once all are known."""
    if not keys:
        runs = list(runs)
        paths = sorted({path for run in runs for path in spec_values(run.spec)})
        metrics = sorted({summary.metric for run in runs for summary in run.metrics})
        keys = [Key.parse(text) for text in _ALWAYS]
        keys += [Key(f"parameters.{path}", parameter=path) for path in paths]
        keys += [
            Key(f"{statistic}:{metric}", metric=metric, statistic=statistic)
            for metric in metrics
            for statistic in STATISTICS
        ]
    elif "name" not in {key.text for key in keys}:
        keys = [Key.parse("name"), *keys]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([key.text for key in keys])
    for run in runs:
        values = [key.value(run) for key in keys]
        writer.writerow(["" if value is None else _plain(value) for value in values])


def _plain(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
