"""`datasets derive`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.standalone.connection import Connection, connect
from tunix_rt.standalone.dataset_export import get_sealed, read_dataset
from tunix_rt.standalone.dataset_upload import DatasetPlan, upload_dataset
from tunix_rt.standalone.dataset_views import show_sealed
from tunix_rt.standalone.options import GatewayOption, JsonOption, parse_labels, parse_splits
from tunix_rt.standalone.progress import count_bar, spinner
from tunix_rt.standalone.resources import dataset_name
from tunix_rt.standalone.structs import struct_of
from tunix_rt.traces.contamination import loose_prompt
from tunix_rt.traces.derive import FIELDS, Conditions, Merged, Rows, merge, mixture_sizes, subset
from tunix_rt.v1 import dataset_pb2 as dataset_pb

Texts = list[str] | None
Number = int | None


def derive(
    name: Annotated[str, typer.Argument(help="The new dataset's id.", metavar="NAME")],
    *,
    parent: Annotated[
        list[str], typer.Option("--from", help="A sealed dataset, or NAME=SHARE of a mixture; repeatable.")
    ],
    split: Annotated[Texts, typer.Option("--split", help="Only traces of this split; repeatable.")] = None,
    where: Annotated[
        Texts,
        typer.Option("--where", help="answer_type=, family=, final_answer= or meta.KEY=value; repeatable."),
    ] = None,
    min_steps: Annotated[Number, typer.Option("--min-steps", min=0)] = None,
    max_steps: Annotated[Number, typer.Option("--max-steps", min=0)] = None,
    max_characters: Annotated[
        Number, typer.Option("--max-characters", min=1, help="Of prompt and what is learnt together.")
    ] = None,
    without: Annotated[
        Texts,
        typer.Option("--without", help="Leave out prompts that stand in this dataset; repeatable."),
    ] = None,
    size: Annotated[Number, typer.Option("--size", min=1, help="So many of the traces.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="The seed of the choice.")] = 0,
    splits: Annotated[
        str, typer.Option("--splits", help="New shares, by content; else each trace keeps its split.")
    ] = "",
    description: Annotated[str, typer.Option("--description")] = "",
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Make a dataset from sealed ones: filter, subset, merge or mixture. It names them as its parents."""
    identifier = dataset_name(name, "name").removeprefix("datasets/")
    parents, shares = _parents(parent, size)
    config: dict[str, Any] = {
        **({"splits": sorted(split)} if split else {}),
        **({"where": parse_labels(where, "where")} if where else {}),
        **{
            key: value
            for key, value in (
                ("min_steps", min_steps),
                ("max_steps", max_steps),
                ("max_characters", max_characters),
            )
            if value is not None
        },
        **({"without": sorted(dataset_name(each, "without") for each in without)} if without else {}),
    }
    _check_where(config.get("where", {}))
    method = _method(parents, shares, config, size)
    chosen = {"size": size, "seed": seed} if size else {}
    config = {**config, **chosen, **({"shares": list(shares)} if shares else {})}
    dataset = dataset_pb.Dataset(description=description, parents=parents)
    dataset.derivation.CopyFrom(dataset_pb.Derivation(method=method, config=struct_of(config)))
    with connect(gateway) as connection:
        with spinner(f"Reading {', '.join(parents)}", quiet=json):
            parts = [read_dataset(connection, get_sealed(connection, each)) for each in parents]
            conditions = _conditions(connection, config)
            merged = _choose(parts, conditions, shares=shares, size=size, seed=seed)
        kept = _set_splits(dataset, merged, splits)
        plan = DatasetPlan(identifier, dataset, [trace for trace, _ in merged.rows], kept)
        with count_bar("Storing traces", len(plan.traces), quiet=json) as advance:
            made = upload_dataset(connection, plan, advance=advance)
    notes = {"duplicates left out": merged.duplicates, "ids made different": merged.renamed}
    show_sealed(made, notes, json=json)


def _parents(texts: Sequence[str], size: int | None) -> tuple[list[str], list[float]]:
    """The names, and the shares of a mixture or none. Raises InvalidArgument."""
    parents, shares = [], []
    for text in texts:
        name, sign, share = text.partition("=")
        parents.append(dataset_name(name, "from"))
        if sign:
            try:
                shares.append(float(share))
            except ValueError as error:
                raise InvalidArgument.of("from", f"is `{text}`; give NAME=SHARE, such as a=0.7.") from error
    found = []
    if shares and (len(shares) < len(parents) or min(shares) <= 0):
        found.append(Violation("from", "has a share; in a mixture each dataset has one, above 0."))
    if shares and not size:
        found.append(Violation("size", "is required for a mixture: the number of its traces."))
    if len(set(parents)) < len(parents):
        found.append(Violation("from", "names a dataset twice; name each once."))
    if found:
        raise InvalidArgument(found)
    return parents, shares


def _check_where(where: dict[str, str]) -> None:
    wrong = [key for key in where if key not in FIELDS and not (key.startswith("meta.") and len(key) > 5)]
    if wrong:
        text = f"names {', '.join(wrong)}; it must name {', '.join(FIELDS)} or meta.KEY."
        raise InvalidArgument.of("where", text)


def _method(parents: Sequence[str], shares: Sequence[float], config: object, size: int | None) -> str:
    if shares:
        return "mixture"
    if len(parents) > 1:
        return "merge"
    if not (config or size):
        text = "is one dataset without a condition or a size, which would be a copy; give one of them."
        raise InvalidArgument.of("from", text)
    return "filter" if config else "subset"


def _conditions(connection: Connection, config: dict[str, Any]) -> Conditions:
    without: set[str] = set()
    for name in config.get("without", ()):
        rows = read_dataset(connection, get_sealed(connection, name))
        without.update(loose_prompt(trace.prompt) for trace, _ in rows)
    numbers = {key: config.get(key) for key in ("min_steps", "max_steps", "max_characters")}
    return Conditions(
        splits=tuple(config.get("splits", ())), where=config.get("where", {}), without=without, **numbers
    )


def _choose(
    parts: Sequence[Rows], conditions: Conditions, *, shares: Sequence[float], size: int | None, seed: int
) -> Merged:
    """The rows of the new dataset. Raises InvalidArgument where there are too few."""
    parts = [[row for row in rows if conditions.hold(*row)] for rows in parts]
    sizes = mixture_sizes(shares, size or 0) if shares else []
    for index, wanted in enumerate(sizes):
        if len(parts[index]) < wanted:
            text = f"asks for {wanted} traces of dataset {index + 1}, which has {len(parts[index])}."
            raise InvalidArgument.of("size", text + " Give a smaller size or another share.")
    if sizes:
        parts = [subset(rows, wanted, seed) for rows, wanted in zip(parts, sizes, strict=True)]
    merged = merge(parts)
    if size and not sizes:
        if len(merged.rows) < size:
            text = f"is {size}, but only {len(merged.rows)} traces meet the conditions. Give a smaller size."
            raise InvalidArgument.of("size", text)
        merged = Merged(subset(merged.rows, size, seed), merged.duplicates, merged.renamed)
    if not merged.rows:
        raise InvalidArgument.of("where", "and the other conditions leave no trace; loosen them.")
    return merged


def _set_splits(dataset: dataset_pb.Dataset, merged: Merged, shares: str) -> list[str]:
    """Fills in the splits of the dataset; the split of each trace, or none where the content decides."""
    if shares:
        for key, share in parse_splits(shares).items():
            dataset.splits.add(name=key, fraction=share)
        return []
    kept = [split for _, split in merged.rows]
    dataset.given_splits = True
    dataset.splits.extend(dataset_pb.Split(name=key) for key in dict.fromkeys(kept))
    return kept
