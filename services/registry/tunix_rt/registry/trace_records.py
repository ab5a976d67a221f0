"""Traces between protos and the canonical records that are stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from tunix_rt.rpc.errors import InvalidArgument, Reason, Violation
from tunix_rt.traces.jsonl import MAX_LINE_BYTES
from tunix_rt.traces.parse import parse_record
from tunix_rt.traces.splits import assign_split
from tunix_rt.traces.trace import Trace, TraceError, canonical_json, content_digest, identity_digest
from tunix_rt.v1 import dataset_pb2

MAX_ID_LENGTH = 200
_MAX_VIOLATIONS = 100


@dataclass(frozen=True)
class TraceRecord:
    """A trace as it is stored: `content` is the SHA-256 of the trace without id and metadata."""

    trace_id: str
    content: bytes
    split: str
    record: bytes


def make_records(
    traces: Sequence[dataset_pb2.Trace], fractions: Mapping[str, float], *, seed: int
) -> list[TraceRecord]:
    """The records of all traces. Raises InvalidArgument, reason TRACES_INVALID, with every bad field."""
    records: list[TraceRecord] = []
    violations: list[Violation] = []
    for index, message in enumerate(traces):
        field = f"traces[{index}]"
        try:
            if message.split:
                raise InvalidArgument.of(f"{field}.split", "is output only; the content decides it.")
            records.append(_record(_parse(message, field), fractions, seed))
        except InvalidArgument as error:
            violations.extend(error.violations)
            continue
        if len(records[-1].record) > MAX_LINE_BYTES:
            size = len(records[-1].record)
            violations.append(Violation(field, f"has {size} bytes; at most {MAX_LINE_BYTES} fit a trace."))
        if len(violations) >= _MAX_VIOLATIONS:
            break
    if violations:
        raise InvalidArgument(violations[:_MAX_VIOLATIONS], Reason.TRACES_INVALID)
    return records


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


def _parse(message: dataset_pb2.Trace, field: str) -> Trace:
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
    try:
        trace = parse_record(record)
    except TraceError as error:
        violations = [Violation(f"{field}.{each.path}", each.message) for each in error.violations]
        raise InvalidArgument(violations, Reason.TRACES_INVALID) from error
    if not message.id:
        return replace(trace, id=identity_digest(trace)[:16])
    if len(message.id) > MAX_ID_LENGTH or not message.id.isprintable():
        raise InvalidArgument.of(f"{field}.id", f"must be printable and at most {MAX_ID_LENGTH} characters.")
    return trace


def _record(trace: Trace, fractions: Mapping[str, float], seed: int) -> TraceRecord:
    split = assign_split(content_digest(trace), fractions, seed)
    bare = canonical_json(replace(trace, id="", meta={}), "")
    return TraceRecord(
        trace_id=trace.id,
        content=hashlib.sha256(bare).digest(),
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
