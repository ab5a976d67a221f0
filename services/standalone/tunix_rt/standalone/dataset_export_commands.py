"""`datasets export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.connection import connect
from tunix_rt.standalone.dataset_export import export_jsonl, export_parquet, get_sealed
from tunix_rt.standalone.options import GatewayOption, JsonOption
from tunix_rt.standalone.output import console, print_json
from tunix_rt.standalone.progress import byte_bar
from tunix_rt.standalone.resources import dataset_name

WRITERS = {".jsonl": export_jsonl, ".parquet": export_parquet}


def export(
    name: Annotated[str, typer.Argument(help="The sealed dataset.", metavar="NAME")],
    file: Annotated[Path, typer.Argument(help="What to write: FILE.jsonl or FILE.parquet.")],
    *,
    split: Annotated[str, typer.Option("--split", help="Only this split.")] = "",
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Write a dataset into a file; `datasets create --file FILE --keep-splits` makes the same one of it."""
    writer = WRITERS.get(file.suffix)
    if writer is None:
        raise InvalidArgument.of("file", f"is `{file}`; its name must end in {' or '.join(WRITERS)}.")
    with connect(gateway) as connection:
        dataset = get_sealed(connection, dataset_name(name, "name"))
        with byte_bar(f"Fetching {dataset.name}", dataset.size_bytes, quiet=json) as advance:
            count = writer(connection, dataset, file, split=split, advance=advance)
    if json:
        print_json({"dataset": dataset.name, "file": str(file), "traces": count, "sha256": dataset.sha256})
    else:
        console.print(f"{count} traces of {dataset.name} are in {file}.", markup=False)
