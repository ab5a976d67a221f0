"""Predictions made elsewhere, to be scored against the items of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tunix_rt.traces.trace import TraceError, Violation


@dataclass(frozen=True)
class Prediction:
    """The output that some model gave for the item of this id."""

    item_id: str
    output: str


def parse_prediction(record: object, path: str = "") -> Prediction:
    """Reads `{"id" | "trace_id", "prediction" | "predicted_answer", …}`; other keys are the user's own."""
    if not isinstance(record, Mapping):
        raise TraceError([Violation(path=path or "record", message="must be a JSON object.")])
    violations: list[Violation] = []
    item_id = _one_of(record, ("id", "trace_id"), path, violations, empty=False)
    output = _one_of(record, ("prediction", "predicted_answer"), path, violations, empty=True)
    if violations:
        raise TraceError(violations)
    return Prediction(item_id=item_id, output=output)


def _one_of(
    record: Mapping[str, object],
    keys: tuple[str, str],
    path: str,
    violations: list[Violation],
    *,
    empty: bool,
) -> str:
    present = [key for key in keys if key in record]
    where = ": ".join(part for part in (path, (present or keys)[0]) if part)
    if not present:
        violations.append(Violation(path=where, message=f"is missing; give `{keys[0]}` or `{keys[1]}`."))
        return ""
    values = [record[key] for key in present]
    if any(not isinstance(value, str) or not (empty or value.strip()) for value in values):
        violations.append(
            Violation(path=where, message="must be a string" + ("." if empty else " with text."))
        )
        return ""
    if len(set(values)) > 1:
        violations.append(
            Violation(path=where, message=f"differs from `{present[1]}`; give only one of them.")
        )
    return str(values[0])
