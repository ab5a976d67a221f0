"""Records of any source read into traces, all of them or none, with every fault by its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tunix_rt.traces.columns import Columns
from tunix_rt.traces.faults import Faults
from tunix_rt.traces.parse import parse_record
from tunix_rt.traces.trace import Trace, TraceError, Violation, canonical_json, content_key, id_fault

MAX_TRACE_BYTES = 1 << 20


@dataclass(frozen=True)
class SourceRow:
    """A record with its place, such as `line 17`, and the split that its source has it in, if any."""

    place: str
    record: object
    split: str = ""


@dataclass(frozen=True)
class ImportRules:
    """How records become traces.

    With `keep_splits` each trace keeps the split of its row, or of the field `split` of its record. A trace
    with the content of an earlier one is by `duplicates` a fault ("refuse"), left out ("skip") or kept.
    """

    columns: Columns = field(default_factory=Columns)
    keep_splits: bool = False
    duplicates: str = "refuse"


@dataclass(frozen=True)
class Imported:
    """Traces with their splits, empty where they are not kept, and how many duplicates were left out."""

    traces: list[Trace]
    splits: list[str]
    skipped: int


def import_rows(rows: Iterable[SourceRow], rules: ImportRules, faults: Faults) -> Imported:
    """Reads all rows. Raises TraceError with the faults given and those of the rows together."""
    traces: list[Trace] = []
    splits: list[str] = []
    ids: dict[str, str] = {}
    contents: dict[bytes, str] = {}
    skipped = 0
    for row in rows:
        try:
            trace, split = _read(row, rules)
        except TraceError as error:
            faults.add(error.violations)
            continue
        content = content_key(trace)
        twin = contents.setdefault(content, row.place)
        if twin != row.place and rules.duplicates == "skip":
            skipped += 1
            continue
        namesake = ids.setdefault(trace.id, row.place)
        if namesake != row.place:
            message = f"{trace.id!r} is also the id of {namesake}; ids must differ."
            faults.add([Violation(f"{row.place}: id", message)])
        elif twin != row.place and rules.duplicates == "refuse":
            faults.add([Violation(row.place, f"has the content of {twin}; leave one of them out.")])
        traces.append(trace)
        splits.append(split)
    faults.raise_any()
    return Imported(traces, splits, skipped)


def _read(row: SourceRow, rules: ImportRules) -> tuple[Trace, str]:
    if not isinstance(row.record, dict):
        return parse_record(row.record, row.place), ""  # raises
    record = rules.columns.apply(row.record, row.place)
    found: list[Violation] = []
    split = record.pop("split", None) or row.split
    if split and not isinstance(split, str):
        found.append(Violation(f"{row.place}: split", f"is {split!r}; it must be a string."))
    elif rules.keep_splits and not split:
        found.append(Violation(f"{row.place}: split", "is missing; a split that is kept needs a name."))
    elif "split" in row.record and not rules.keep_splits:
        _lost_split(record, str(split), row, rules, found)
    try:
        trace = parse_record(record, row.place)
    except TraceError as error:
        raise TraceError([*found, *error.violations]) from error
    if fault := id_fault(trace.id):
        found.append(Violation(f"{row.place}: id", fault))
    if (size := len(canonical_json(trace, str(split)))) > MAX_TRACE_BYTES:
        found.append(Violation(row.place, f"has {size} bytes; at most {MAX_TRACE_BYTES} fit a trace."))
    if found:
        raise TraceError(found)
    return trace, str(split) if rules.keep_splits else ""


def _lost_split(
    record: dict[str, object], split: str, row: SourceRow, rules: ImportRules, found: list[Violation]
) -> None:
    """What becomes of a split that is not kept: as of other columns that no field takes."""
    if rules.columns.others == "refuse":
        text = "is the split of the source; keep the splits, or leave out what is no field of a trace."
        found.append(Violation(f"{row.place}: split", text))
    elif rules.columns.others == "meta" and isinstance(meta := record.get("meta") or {}, dict):
        record["meta"] = {**meta, "split": split}
