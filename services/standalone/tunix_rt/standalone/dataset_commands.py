"""`datasets create`, `validate`, `list`, `show`; the other commands are registered here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.standalone import dataset_change_commands as changes
from tunix_rt.standalone.connection import CALL_SECONDS, LONG_CALL_SECONDS, Connection, connect
from tunix_rt.standalone.dataset_derive_command import derive
from tunix_rt.standalone.dataset_export import get_sealed
from tunix_rt.standalone.dataset_export_commands import export
from tunix_rt.standalone.dataset_sources import default_splits, from_dataset, from_file, from_generator
from tunix_rt.standalone.dataset_tokens import token_lengths, token_records, token_table
from tunix_rt.standalone.dataset_upload import DatasetPlan, upload_dataset
from tunix_rt.standalone.dataset_views import (
    dataset_facts,
    overlap_lines,
    show_sealed,
    statistics_table,
    trace_rows,
)
from tunix_rt.standalone.options import (
    GatewayOption,
    JsonOption,
    LimitOption,
    parse_labels,
    parse_splits,
    parse_values,
)
from tunix_rt.standalone.output import console, message_dict, print_json
from tunix_rt.standalone.progress import count_bar, spinner
from tunix_rt.standalone.resources import dataset_name, model_version_name
from tunix_rt.standalone.views import dataset_table, fields_table
from tunix_rt.traces.columns import Columns
from tunix_rt.traces.import_rows import Imported, ImportRules
from tunix_rt.v1 import dataset_pb2 as dataset_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb

if TYPE_CHECKING:
    from tunix_rt.traces.set_check import SetReport

app = typer.Typer(help="Create, check, list and show datasets of reasoning traces.", no_args_is_help=True)
for _command in (changes.update, changes.delete, changes.restore, derive, export):
    app.command(_command.__name__)(_command)


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
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Take the traces of a JSONL, Parquet or Arrow file, or of a folder."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", help="FIELD=COLUMN, such as prompt=question or meta.level=level; repeatable."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="gsm8k, math or sharegpt; else as in the docs.")] = "",
    others: Annotated[
        str, typer.Option("--others", help="Columns that no field takes: refuse, meta or drop.")
    ] = "refuse",
    source_split: Annotated[str, typer.Option("--source-split", help="Only this split of a folder.")] = "",
    keep_splits: Annotated[
        bool, typer.Option("--keep-splits", help="Each trace keeps the split of its source.")
    ] = False,
    skip_duplicates: Annotated[
        bool, typer.Option("--skip-duplicates", help="Leave out a trace that came before; else refuse it.")
    ] = False,
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
    rules = ImportRules(
        Columns(parse_labels(columns or [], "map"), form, others),
        keep_splits,
        "skip" if skip_duplicates else "refuse",
    )
    _check_splits(rules, file=file, splits=splits, split_seed=split_seed)
    with spinner(f"Reading {file}" if file else f"Making traces with {generator}", quiet=json):
        if file:
            source, found = from_file(file, rules, split=source_split)
        else:
            values = parse_values(config or [], "config")
            source, traces = from_generator(generator, seed=seed, size=size, config=values)
            found = Imported(traces, [], 0)
    dataset = dataset_pb.Dataset(
        description=description, source=source, split_seed=split_seed, given_splits=keep_splits
    )
    if keep_splits:
        dataset.splits.extend(dataset_pb.Split(name=each) for each in dict.fromkeys(found.splits))
    for key, share in parse_splits(splits or default_splits(generator)).items():
        dataset.splits.add(name=key, fraction=share)
    plan = DatasetPlan(identifier, dataset, found.traces, found.splits if keep_splits else ())
    with connect(gateway) as connection, count_bar("Storing traces", len(plan.traces), quiet=json) as advance:
        made = upload_dataset(connection, plan, advance=advance)
    show_sealed(made, {"duplicates left out": found.skipped} if skip_duplicates else {}, json=json)


def _check_splits(rules: ImportRules, *, file: Path | None, splits: str, split_seed: int) -> None:
    found = []
    if rules.keep_splits and (splits or split_seed):
        found.append(Violation("keep-splits", "excludes --splits and --split-seed; give one or the other."))
    if rules != ImportRules() and not file:
        found.append(Violation("file", "is required with --map, --format, --others and the like."))
    if found:
        raise InvalidArgument(found)


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
        traces = from_file(file, ImportRules(duplicates="keep"))[1].traces
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
    *,
    limit: LimitOption = 50,
    deleted: Annotated[bool, typer.Option("--deleted", help="Also those that are deleted.")] = False,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """List datasets, newest first."""
    with connect(gateway) as connection:
        request = registry_pb.ListDatasetsRequest(page_size=limit, show_deleted=deleted)
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
    statistics: Annotated[
        bool, typer.Option("--statistics/--no-statistics", help="Lengths, duplicates, answer types, rules.")
    ] = True,
    model: Annotated[str, typer.Option("--model", help="Also the lengths in this model's tokens.")] = "",
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Show a dataset, what it holds, and its first traces."""
    full_name = dataset_name(name, "name")
    found: list[dataset_pb.Trace] = []
    with connect(gateway) as connection:
        request = registry_pb.GetDatasetRequest(name=full_name)
        dataset = connection.registry.GetDataset(request, timeout=CALL_SECONDS)
        if traces:
            list_request = registry_pb.ListTracesRequest(dataset=full_name, page_size=traces, split=split)
            found.extend(connection.registry.ListTraces(list_request, timeout=CALL_SECONDS).traces)
        counted = _statistics(connection, dataset) if statistics else None
        version = model_version_name(connection, model) if model else ""
        lengths = token_lengths(connection, get_sealed(connection, full_name), version) if model else []
    if json:
        parts: dict[str, object] = {"dataset": message_dict(dataset)}
        parts["traces"] = [message_dict(trace) for trace in found]
        parts |= {"statistics": message_dict(counted)} if counted else {}
        print_json(parts | ({"tokens": token_records(lengths)} if lengths else {}))
        return
    console.print(f"[bold]{dataset.name}[/]")
    console.print(fields_table(dataset_facts(dataset)))
    if counted:
        console.print(statistics_table(counted))
        for line in overlap_lines(counted):
            console.print(line, markup=False)
    if lengths:
        console.print(token_table(lengths, version))
    for trace in found:
        console.print(f"\n[bold]{trace.id}[/] [dim]{trace.split}[/]")
        console.print(fields_table(trace_rows(trace)))


def _statistics(connection: Connection, dataset: dataset_pb.Dataset) -> dataset_pb.DatasetStatistics | None:
    """What a sealed dataset holds; None for one that is open or deleted."""
    if dataset.state != dataset_pb.Dataset.SEALED or dataset.HasField("delete_time"):
        return None
    request = registry_pb.GetDatasetStatisticsRequest(name=dataset.name)
    return connection.registry.GetDatasetStatistics(request, timeout=LONG_CALL_SECONDS)


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
