"""Predictions made elsewhere, to be scored against the items of a dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tunix_rt.traces.fields import RecordReader
from tunix_rt.traces.trace import TraceError

FINISH_REASONS = ("stop", "length", "error")
DEFAULT_FINISH_REASON = "stop"


@dataclass(frozen=True)
class Prediction:
    """The output that some model gave for the item of this id.

    `sample` counts the outputs of the item from 0. `finish_reason` is one of FINISH_REASONS; "error" means
    that there is no output.
    """

    item_id: str
    output: str
    sample: int = 0
    finish_reason: str = DEFAULT_FINISH_REASON


def parse_prediction(record: object, path: str = "") -> Prediction:
    """Reads `{"id" | "trace_id", "prediction" | "predicted_answer", "sample"?, "finish_reason"?, …}`.

    Other keys are the user's own. An empty `finish_reason` is `stop`.
    """
    reader = RecordReader(path)
    if not isinstance(record, Mapping):
        reader.wrong("", "must be a JSON object.")
        raise TraceError(reader.violations)
    item_id = _one_of(reader, record, ("id", "trace_id"), empty=False)
    output = _one_of(reader, record, ("prediction", "predicted_answer"), empty=True)
    sample = record.get("sample", 0)
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 0:
        reader.wrong("sample", f"is {str(sample)[:80]!r}; it must be a whole number from 0.")
        sample = 0
    finish_reason = record.get("finish_reason") or DEFAULT_FINISH_REASON
    if fault := finish_fault(finish_reason, output):
        reader.wrong("finish_reason", fault)
    if reader.violations:
        raise TraceError(reader.violations)
    return Prediction(item_id, output, sample, str(finish_reason))


def finish_fault(finish_reason: object, output: str) -> str:
    """What is wrong with why an output ended; empty if nothing is."""
    if finish_reason not in FINISH_REASONS:
        return f"is {str(finish_reason)[:80]!r}; it must be one of {', '.join(FINISH_REASONS)}, or empty."
    if finish_reason == "error" and output:
        return "is 'error', but there is an output; give `stop` or `length`, or leave the output empty."
    return ""


def canonical_prediction(prediction: Prediction) -> bytes:
    """The one serialisation of a prediction: a line of JSON with sorted keys, which can be read again."""
    record = {
        "id": prediction.item_id,
        "sample": prediction.sample,
        "prediction": prediction.output,
        "finish_reason": prediction.finish_reason,
    }
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"


def _one_of(reader: RecordReader, record: Mapping[str, object], keys: tuple[str, str], *, empty: bool) -> str:
    present = [key for key in keys if key in record]
    field = (present or keys)[0]
    if not present:
        reader.wrong(field, f"is missing; give `{keys[0]}` or `{keys[1]}`.")
        return ""
    values = [record[key] for key in present]
    if any(not isinstance(value, str) or not (empty or value.strip()) for value in values):
        reader.wrong(field, "must be a string" + ("." if empty else " with text."))
        return ""
    if len(set(values)) > 1:
        reader.wrong(field, f"differs from `{present[1]}`; give only one of them.")
    return reader.encodable(str(values[0]), field)
