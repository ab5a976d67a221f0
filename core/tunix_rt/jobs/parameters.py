"""A spec as values by path: what lists filter and order by, and what comparisons set side by side; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from tunix_rt.v1 import run_pb2

NOT_COMPARED = ("evaluate_after",)
Value = str | bool | int | float


def spec_values(spec: run_pb2.RunSpec) -> dict[str, Value]:
    """The values of a spec by path, such as `optimizer.learning_rate`.

    `tuning` tells which tuning was chosen. What a run does after training
    (`evaluate_after`) is left out.
    """
    return {"tuning": spec.WhichOneof("tuning") or "full"} | message_values(spec, without=NOT_COMPARED)


def message_values(message: Message, *, without: Collection[str] = ()) -> dict[str, Value]:
    """The values of a message by path; `without` are fields of the message itself to leave out.

    Enums are names, lists are texts. Fields that were not set are there unless they say so themselves
    (messages, `optional` and `oneof`).
    """
    flat: dict[str, Value] = {}
    _gather(message, "", flat, without)
    return flat


def flatten_spec(spec: run_pb2.RunSpec) -> dict[str, str]:
    """As `spec_values`, as texts."""
    return {path: value_text(value) for path, value in spec_values(spec).items()}


def flatten_message(message: Message, *, without: Collection[str] = ()) -> dict[str, str]:
    """As `message_values`, as texts."""
    return {path: value_text(value) for path, value in message_values(message, without=without).items()}


def value_text(value: Value) -> str:
    """A value as people and filters write it, such as `true` or `0.001`."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _gather(message: Message, prefix: str, into: dict[str, Value], without: Collection[str]) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.name in without:
            continue
        path = f"{prefix}{field.name}"
        if field.is_repeated:
            _gather_repeated(message, field, path, into)
        elif field.has_presence and not message.HasField(field.name):
            continue
        elif field.message_type is None:
            into[path] = _scalar(field, getattr(message, field.name))
        elif field.message_type.full_name.startswith("google.protobuf."):
            _flatten(_tree(message, field), f"{path}.", into)
        else:
            _gather(getattr(message, field.name), f"{path}.", into, ())


def _gather_repeated(message: Message, field: Any, path: str, into: dict[str, Value]) -> None:
    entries = getattr(message, field.name)
    if field.message_type is None:
        into[path] = ", ".join(value_text(_scalar(field, entry)) for entry in entries)
    elif field.message_type.GetOptions().map_entry:
        _flatten(_tree(message, field), f"{path}.", into)
    else:
        into[path] = ", ".join(str(_dict(entry)) for entry in entries)


def _scalar(field: Any, value: Any) -> Value:
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else int(value)
    made: Value = value if field.type != field.TYPE_BYTES else value.hex()
    return made


def _tree(message: Message, field: Any) -> Mapping[str, Any]:
    found: Any = _dict(message).get(field.name, {})
    return found if isinstance(found, Mapping) else {"": found}


def _dict(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _flatten(tree: Mapping[str, Any], prefix: str, into: dict[str, Value]) -> None:
    for name, value in tree.items():
        path = f"{prefix}{name}".rstrip(".")
        if isinstance(value, Mapping):
            _flatten(value, f"{path}.", into)
        elif isinstance(value, list):
            into[path] = ", ".join(str(entry) for entry in value)
        else:
            into[path] = value if isinstance(value, bool | float | int) else str(value)
