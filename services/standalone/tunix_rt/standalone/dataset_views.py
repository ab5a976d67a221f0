"""A dataset, its traces and its statistics as people see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from rich.table import Table

from tunix_rt.standalone.output import console, message_dict, new_table, print_json
from tunix_rt.standalone.views import fields_table, size_text, time_text
from tunix_rt.v1 import dataset_pb2 as dataset_pb

_SHOWN_VALUES = 6


def show_sealed(made: dataset_pb.Dataset, notes: Mapping[str, int], *, json: bool) -> None:
    """Prints a dataset that was just sealed, and what was done on the way to it."""
    if json:
        print_json({**message_dict(made), **{key.replace(" ", "_"): count for key, count in notes.items()}})
        return
    console.print(f"Sealed [bold]{made.name}[/]")
    console.print(fields_table([*dataset_facts(made), *((key, str(n)) for key, n in notes.items() if n)]))


def dataset_facts(dataset: dataset_pb.Dataset) -> list[tuple[str, str]]:
    """What a dataset says about itself, as labels and texts."""
    source = dataset.source
    made = f"{source.generator}, size {source.size}, seed {source.seed}" if source.size else source.generator
    splits = ", ".join(f"{split.name} {split.trace_count} ({split.fraction:g})" for split in dataset.splits)
    derivation = ", ".join(f"{key} {value}" for key, value in message_dict(dataset.derivation.config).items())
    rows = [
        ("state", "deleted" if dataset.HasField("delete_time") else _state(dataset)),
        ("description", dataset.description),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(dataset.labels.items()))),
        ("source", made),
        ("parents", ", ".join(dataset.parents)),
        ("derivation", f"{dataset.derivation.method} {derivation}".strip()),
        ("traces", str(dataset.trace_count)),
        ("splits", splits + (", as given" if dataset.given_splits else "")),
        ("SHA-256", dataset.sha256),
        ("size", size_text(dataset.size_bytes) if dataset.size_bytes else ""),
        ("sealed", time_text(dataset.seal_time)),
    ]
    return [(label, value) for label, value in rows if value]


def trace_rows(trace: dataset_pb.Trace) -> list[tuple[str, str]]:
    """The texts of a trace with their kinds."""
    if trace.messages:
        return [(turn.role, turn.content) for turn in trace.messages]
    rows = [("prompt", trace.prompt)]
    rows += [(step.type, step.content) for step in trace.steps]
    rows += [("completion", trace.completion)] if trace.completion else []
    return [*rows, ("answer", trace.final_answer)]


def statistics_table(found: dataset_pb.DatasetStatistics) -> Table:
    """Statistics with a column a split; lengths as median, 99 % and greatest."""
    columns = [found.total, *found.splits]
    table = new_table("", *(each.split or "all" for each in columns))
    rows: list[tuple[str, Callable[[dataset_pb.SplitStatistics], str]]] = [
        ("traces", lambda each: str(each.trace_count)),
        ("steps", lambda each: _spread(each.steps)),
        ("prompt, characters", lambda each: _spread(each.prompt_characters)),
        ("learnt, characters", lambda each: _spread(each.completion_characters)),
        ("answers", lambda each: _counts(each.answer_types)),
        ("families", lambda each: _counts(each.families)),
        ("exact duplicates", lambda each: str(each.exact_duplicates)),
        ("by words", lambda each: str(each.normalised_duplicates)),
        ("easiest rule", _baseline),
    ]
    for label, cell in rows:
        table.add_row(label, *(cell(each) for each in columns))
    return table


def overlap_lines(found: dataset_pb.DatasetStatistics) -> list[str]:
    """A line for each pair of splits that share prompts."""
    return [
        f"{each.first_split} and {each.second_split} share {each.exact} prompts,"
        f" {each.normalised} by words: what is measured on one was learnt from the other."
        for each in found.overlaps
        if each.normalised or each.exact
    ]


def _state(dataset: dataset_pb.Dataset) -> str:
    return dataset_pb.Dataset.State.Name(dataset.state).lower()


def _spread(values: dataset_pb.Quantiles) -> str:
    return f"{values.p50} · {values.p99} · {values.max}"


def _counts(counts: Iterable[dataset_pb.ValueCount]) -> str:
    shown = list(counts)
    texts = [f"{each.value or 'none'} {each.count}" for each in shown[:_SHOWN_VALUES]]
    return ", ".join(texts) + (", …" if len(shown) > _SHOWN_VALUES else "")


def _baseline(split: dataset_pb.SplitStatistics) -> str:
    if not split.baselines:
        return ""
    best = split.baselines[0]
    return f"{best.rule} {best.accuracy:.1%}"
