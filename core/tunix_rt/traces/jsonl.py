"""Files with one JSON record a line, read without trusting their size."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from tunix_rt.traces.faults import Faults
from tunix_rt.traces.import_rows import Imported, ImportRules, SourceRow, import_rows
from tunix_rt.traces.parse import parse_record
from tunix_rt.traces.predictions import Prediction, parse_prediction
from tunix_rt.traces.trace import Trace, TraceError, Violation

MAX_LINE_BYTES = 1 << 20
MAX_PREDICTION_LINE_BYTES = 8 << 20  # an output of 1 MiB, each character of which may be escaped


def read_jsonl(stream: BinaryIO, max_line_bytes: int = MAX_LINE_BYTES) -> list[Trace]:
    """Reads all traces of a binary stream; any fault raises TraceError with paths like `line 17: steps`.

    Two traces of one content are none.
    """
    return import_jsonl(stream, ImportRules(duplicates="keep"), max_line_bytes).traces


def import_jsonl(stream: BinaryIO, rules: ImportRules, max_line_bytes: int = MAX_LINE_BYTES) -> Imported:
    """Reads the records of a binary stream by rules; any fault raises TraceError.

    Never holds more than one line of at most `max_line_bytes`; at a longer line reading stops. Blank
    lines are passed over.
    """
    faults = Faults()
    rows = (
        SourceRow(f"line {number}", record) for number, record in _records(stream, max_line_bytes, faults)
    )
    return import_rows(rows, rules, faults)


def read_predictions(stream: BinaryIO) -> list[tuple[int, Prediction]]:
    """Reads all predictions of a binary stream, each with the number of its line.

    Any fault raises TraceError with paths like `line 17: sample`; two outputs for one sample of an item
    are one.
    """
    predictions: list[tuple[int, Prediction]] = []
    faults = Faults()
    seen: dict[tuple[str, int], int] = {}
    for number, record in _records(stream, MAX_PREDICTION_LINE_BYTES, faults):
        try:
            prediction = parse_prediction(record, f"line {number}")
        except TraceError as error:
            faults.add(error.violations)
            continue
        key = (prediction.item_id, prediction.sample)
        if key in seen:
            message = (
                f"{prediction.item_id[:80]!r}, sample {prediction.sample}, is also in line {seen[key]}; "
                "give each output once."
            )
            faults.add([Violation(path=f"line {number}: id", message=message)])
        seen.setdefault(key, number)
        predictions.append((number, prediction))
    faults.raise_any()
    return predictions


def read_canonical(lines: Iterable[bytes]) -> list[tuple[Trace, str]]:
    """Traces with their splits from lines that `canonical_json` made."""
    rows = []
    for number, line in enumerate(lines, start=1):
        record = _decode(line, number)
        if not isinstance(record, dict) or not isinstance(record.get("split"), str):
            raise TraceError(
                [Violation(path=f"line {number}: split", message="is missing; it names a split.")]
            )
        split = record.pop("split")
        rows.append((parse_record(record, f"line {number}"), split))
    return rows


def _records(stream: BinaryIO, max_line_bytes: int, faults: Faults) -> Iterator[tuple[int, object]]:
    """The records with the numbers of their lines; ends at a line that is too long."""
    number = 0
    while line := stream.readline(max_line_bytes + 2):
        number += 1
        if len(line.rstrip(b"\r\n")) > max_line_bytes:
            message = f"is longer than {max_line_bytes} bytes; split the record or leave it out."
            faults.add([Violation(path=f"line {number}", message=message + " No line after it was read.")])
            return
        try:
            record = _decode(line, number)
        except TraceError as error:
            faults.add(error.violations)
            continue
        if record is not None:
            yield number, record


def _decode(line: bytes, number: int) -> object:
    """The JSON value of a line, None for a blank line."""
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        if not text:
            return None
        value: object = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 at byte {error.start}; save the file as UTF-8."
        raise TraceError([Violation(path=f"line {number}", message=message)]) from error
    except (ValueError, RecursionError) as error:
        message = f"is not valid JSON ({error}); each line must be one JSON object."
        raise TraceError([Violation(path=f"line {number}", message=message)]) from error
    if value is None:
        raise TraceError([Violation(path=f"line {number}", message="is null; it must be a JSON object.")])
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return record


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")
