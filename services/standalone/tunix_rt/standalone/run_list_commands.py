"""`runs list` and `export`."""

from __future__ import annotations

import csv
import json as json_format
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, TextIO

import typer

from tunix_rt.jobs.parameters import spec_values
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.connection import CALL_SECONDS, connect
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
from tunix_rt.standalone.views import number_text, run_table
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1 import run_pb2 as run_pb

_ALWAYS = ("name", "state", "created", "started", "ended", "description", "tags", "labels", "parent", "sweep")
Texts = list[str] | None


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


def _keys(columns: str) -> list[Key]:
    return [Key.parse(text.strip()) for text in columns.split(",") if text.strip()]


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
