"""`datasets create`, `validate`, `list` and `show`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.standalone.connection import CALL_SECONDS, connect
from tunix_rt.standalone.dataset_sources import default_splits, from_dataset, from_file, from_generator
from tunix_rt.standalone.dataset_upload import DatasetPlan, upload_dataset
from tunix_rt.standalone.options import GatewayOption, JsonOption, LimitOption, parse_splits, parse_values
from tunix_rt.standalone.output import console, message_dict, print_json
from tunix_rt.standalone.progress import count_bar, spinner
from tunix_rt.standalone.resources import dataset_name
from tunix_rt.standalone.views import dataset_table, fields_table, size_text, time_text
from tunix_rt.v1 import dataset_pb2 as dataset_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb

if TYPE_CHECKING:
    from tunix_rt.traces.set_check import SetReport

app = typer.Typer(help="Create, check, list and show datasets of reasoning traces.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="The dataset's id, such as golden-v2.", metavar="NAME")],
    *,
    generator: Annotated[
        str,
        typer.Option(
            "--generator",
            help="Make the traces: golden@2, arithmetic@1, or an evaluation set: arithmetic-eval@1, "
            "multistep-eval@1, units-eval@1, formatting-eval@1, edge-cases-eval@1, choices-eval@1.",
        ),
    ] = "",
    file: Annotated[Path | None, typer.Option("--file", help="Take the traces of a JSONL file.")] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", help="How many traces; else a whole evaluation set, or 100 of others."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The generator's seed.")] = 42,
    config: Annotated[
        list[str] | None, typer.Option("--config", help="A setting of the generator, key=value; repeatable.")
    ] = None,
    splits: Annotated[
        str,
        typer.Option(
            "--splits",
            help="Shares, such as train=0.8,validation=0.1,test=0.1. (test=1 for an evaluation set)",
        ),
    ] = "",
    split_seed: Annotated[int, typer.Option("--split-seed", help="The seed of the assignment.")] = 0,
    description: Annotated[str, typer.Option("--description")] = "",
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Create a dataset and seal it. The same command again continues after an interruption."""
    identifier = dataset_name(name, "name").removeprefix("datasets/")
    if bool(generator) == bool(file):
        raise InvalidArgument(
            [Violation("generator", "excludes `file`; give exactly one of --generator, --file.")]
        )
    shares = parse_splits(splits or default_splits(generator))
    with spinner(f"Reading {file}" if file else f"Making traces with {generator}", quiet=json):
        if file:
            source, traces = from_file(file)
        else:
            values = parse_values(config or [], "config")
            source, traces = from_generator(generator, seed=seed, size=size, config=values)
    dataset = dataset_pb.Dataset(description=description, source=source, split_seed=split_seed)
    dataset.splits.extend(dataset_pb.Split(name=key, fraction=share) for key, share in shares.items())
    with connect(gateway) as connection, count_bar("Storing traces", len(traces), quiet=json) as advance:
        made = upload_dataset(connection, DatasetPlan(identifier, dataset, traces), advance=advance)
    if json:
        print_json(made)
    else:
        console.print(f"Sealed [bold]{made.name}[/]")
        console.print(fields_table(_facts(made)))


@app.command()
def validate(
    name: Annotated[str, typer.Argument(help="The dataset; else give --file.", metavar="NAME")] = "",
    *,
    file: Annotated[Path | None, typer.Option("--file", help="Check the records of a JSONL file.")] = None,
    split: Annotated[str, typer.Option("--split", help="Only this split of the dataset.")] = "",
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Check that the items of a set can be scored. Exits with 1 and a list if some cannot."""
    from tunix_rt.traces.set_check import check_set

    if bool(name) == bool(file) or (file and split):
        raise InvalidArgument.of("name", "excludes --file, and --split needs a NAME; give NAME or --file.")
    if file:
        _, traces = from_file(file)
    else:
        full_name = dataset_name(name, "name")
        with connect(gateway) as connection:
            traces = from_dataset(connection, full_name, split)
    report = check_set(traces)
    if json:
        faults = [{"id": fault.path, "fault": fault.message} for fault in report.faults]
        counts = {"sections": dict(report.sections), "types": dict(report.types)}
        sizes = {"items": report.items, "duplicates": report.duplicates}
        print_json({**sizes, **counts, "faults": faults})
    else:
        for fault in report.faults:
            console.print(f"{fault.path} {fault.message}", markup=False, soft_wrap=True)
        console.print(fields_table(_report_rows(report)))
    if report.faults:
        raise typer.Exit(1)


@app.command("list")
def list_datasets(
    *, limit: LimitOption = 50, gateway: GatewayOption = None, json: JsonOption = False
) -> None:
    """List datasets, newest first."""
    with connect(gateway) as connection:
        request = registry_pb.ListDatasetsRequest(page_size=limit)
        response = connection.registry.ListDatasets(request, timeout=CALL_SECONDS)
    if json:
        print_json(response)
    elif response.datasets:
        console.print(dataset_table(response.datasets))
    else:
        console.print("No datasets yet. `tunix-rt datasets create golden-v2 --generator golden@2` makes one.")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The dataset.", metavar="NAME")],
    *,
    traces: Annotated[int, typer.Option("--traces", min=0, max=1000, help="How many traces to show.")] = 3,
    split: Annotated[str, typer.Option("--split", help="Only traces of this split.")] = "",
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Show a dataset and its first traces."""
    full_name = dataset_name(name, "name")
    found: list[dataset_pb.Trace] = []
    with connect(gateway) as connection:
        request = registry_pb.GetDatasetRequest(name=full_name)
        dataset = connection.registry.GetDataset(request, timeout=CALL_SECONDS)
        if traces:
            list_request = registry_pb.ListTracesRequest(dataset=full_name, page_size=traces, split=split)
            found.extend(connection.registry.ListTraces(list_request, timeout=CALL_SECONDS).traces)
    if json:
        print_json({"dataset": message_dict(dataset), "traces": [message_dict(trace) for trace in found]})
        return
    console.print(f"[bold]{dataset.name}[/]")
    console.print(fields_table(_facts(dataset)))
    for trace in found:
        console.print(f"\n[bold]{trace.id}[/] [dim]{trace.split}[/]")
        console.print(fields_table(_trace_rows(trace)))


def _facts(dataset: dataset_pb.Dataset) -> list[tuple[str, str]]:
    source = dataset.source
    made = f"{source.generator}, size {source.size}, seed {source.seed}" if source.size else source.generator
    splits = ", ".join(f"{split.name} {split.trace_count} ({split.fraction:g})" for split in dataset.splits)
    rows = [
        ("state", dataset_pb.Dataset.State.Name(dataset.state).lower()),
        ("description", dataset.description),
        ("source", made),
        ("traces", str(dataset.trace_count)),
        ("splits", splits),
        ("SHA-256", dataset.sha256),
        ("size", size_text(dataset.size_bytes) if dataset.size_bytes else ""),
        ("sealed", time_text(dataset.seal_time)),
    ]
    return [(label, value) for label, value in rows if value]


def _report_rows(report: SetReport) -> list[tuple[str, str]]:
    def counts(values: Mapping[str, int]) -> str:
        return ", ".join(f"{name or 'none'} {count}" for name, count in values.items())

    return [
        ("items", str(report.items)),
        ("sections", counts(report.sections)),
        ("types", counts(report.types)),
        ("duplicates", str(report.duplicates)),
        ("faults", str(len(report.faults))),
    ]


def _trace_rows(trace: dataset_pb.Trace) -> list[tuple[str, str]]:
    if trace.messages:
        return [(turn.role, turn.content) for turn in trace.messages]
    rows = [("prompt", trace.prompt)]
    rows += [(step.type, step.content) for step in trace.steps]
    rows += [("completion", trace.completion)] if trace.completion else []
    return [*rows, ("answer", trace.final_answer)]
