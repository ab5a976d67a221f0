"""Traces between protos and the canonical records that are stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from tunix_rt.rpc.errors import InvalidArgument, Reason, Violation
from tunix_rt.traces.jsonl import MAX_LINE_BYTES
from tunix_rt.traces.parse import parse_record
from tunix_rt.traces.splits import assign_split
from tunix_rt.traces.trace import (
    Trace,
    TraceError,
    canonical_json,
    content_digest,
    content_key,
    id_fault,
    identity_digest,
)
from tunix_rt.v1 import dataset_pb2


@dataclass(frozen=True)
class TraceRecord:
    """A trace as it is stored: `content` is the SHA-256 of the trace without id and metadata."""

    trace_id: str
    content: bytes
    split: str
    record: bytes


@dataclass(frozen=True)
class BatchPlace:
    """Where traces go: how their splits are found, and the number of the first one in its message."""

    fractions: Mapping[str, float]
    seed: int
    given_splits: bool
    first_index: int = 0

    @classmethod
    def of(cls, dataset: dataset_pb2.Dataset, *, first_index: int) -> BatchPlace:
        """The place in a dataset."""
        fractions = {split.name: split.fraction for split in dataset.splits}
        return cls(fractions, dataset.split_seed, dataset.given_splits, first_index)


@dataclass(frozen=True)
class Records:
    """The good records of a batch by their number in the message, and what is wrong with the others."""

    by_index: dict[int, TraceRecord]
    violations: list[Violation]


def make_records(traces: Sequence[dataset_pb2.Trace], place: BatchPlace) -> Records:
    """The records of all traces, and every fault."""
    made = Records({}, [])
    for index, message in enumerate(traces, place.first_index):
        field = f"traces[{index}]"
        try:
            record = _record(_parse(message, field, place), message.split, place)
        except InvalidArgument as error:
            made.violations.extend(error.violations)
            continue
        if len(record.record) > MAX_LINE_BYTES:
            text = f"has {len(record.record)} bytes; at most {MAX_LINE_BYTES} fit a trace."
            made.violations.append(Violation(field, text))
        else:
            made.by_index[index] = record
    return made


def to_message(record: bytes) -> dataset_pb2.Trace:
    """The proto of a stored record."""
    fields = json.loads(record)
    message = dataset_pb2.Trace(
        id=fields["id"],
        prompt=fields["prompt"],
        steps=[dataset_pb2.Step(type=step["type"], content=step["content"]) for step in fields["steps"]],
        final_answer=fields["final_answer"],
        answer_type=fields["answer_type"],
        aliases=fields["aliases"],
        completion=fields["completion"],
        split=fields["split"],
        messages=[dataset_pb2.ChatMessage(**turn) for turn in fields.get("messages", ())],
    )
    if fields["meta"]:
        message.meta.update(fields["meta"])
    return message


def _parse(message: dataset_pb2.Trace, field: str, place: BatchPlace) -> Trace:
    record: dict[str, object] = {
        "prompt": message.prompt,
        "steps": [
            {"i": i, "type": step.type, "content": step.content} for i, step in enumerate(message.steps)
        ],
        "aliases": list(message.aliases),
        "meta": _struct(message.meta),
    }
    for key in ("id", "final_answer", "answer_type", "completion"):
        if value := getattr(message, key):
            record[key] = value
    if message.messages:
        record["messages"] = [{"role": turn.role, "content": turn.content} for turn in message.messages]
    violations = _split_violations(message, field, place)
    if fault := id_fault(message.id):
        violations.append(Violation(f"{field}.id", fault))
    try:
        trace = parse_record(record)
    except TraceError as error:
        violations += [Violation(f"{field}.{each.path}", each.message) for each in error.violations]
    if violations:
        raise InvalidArgument(violations, Reason.TRACES_INVALID)
    return trace if message.id else replace(trace, id=identity_digest(trace)[:16])


def _split_violations(message: dataset_pb2.Trace, field: str, place: BatchPlace) -> list[Violation]:
    if not place.given_splits and message.split:
        return [Violation(f"{field}.split", "is output only; the content decides it.")]
    if place.given_splits and message.split not in place.fractions:
        text = f"is `{message.split[:80]}`; it must be one of {', '.join(place.fractions)}."
        return [Violation(f"{field}.split", text)]
    return []


def _record(trace: Trace, given: str, place: BatchPlace) -> TraceRecord:
    split = given or assign_split(content_digest(trace), place.fractions, place.seed)
    return TraceRecord(
        trace_id=trace.id,
        content=content_key(trace),
        split=split,
        record=canonical_json(trace, split),
    )


def _struct(struct: Struct) -> dict[str, object]:
    return {key: _value(value) for key, value in struct.fields.items()}


def _value(value: Value) -> object:
    """The JSON value; whole numbers become integers, since protobuf knows doubles only."""
    kind: Any = value.WhichOneof("kind")
    if kind == "struct_value":
        return _struct(value.struct_value)
    if kind == "list_value":
        items: ListValue = value.list_value
        return [_value(each) for each in items.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    if kind == "string_value":
        return value.string_value
    return value.bool_value if kind == "bool_value" else None
