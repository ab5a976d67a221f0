"""Flattens run specs and finds where they differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from tunix_rt.v1 import gateway_service_pb2, run_pb2

NOT_COMPARED = ("evaluate_after",)


def flatten_spec(spec: run_pb2.RunSpec) -> dict[str, str]:
    """The values of a spec by path, such as `optimizer.learning_rate`.

    `tuning` tells which tuning was chosen. What a run does after training
    (`evaluate_after`) is left out.
    """
    return {"tuning": spec.WhichOneof("tuning") or "full"} | flatten_message(spec, without=NOT_COMPARED)


def flatten_message(message: Message, *, without: Collection[str] = ()) -> dict[str, str]:
    """The values of a message by path; `without` are fields of the message itself to leave out."""
    tree = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    flat: dict[str, str] = {}
    _flatten({name: value for name, value in tree.items() if name not in without}, "", flat)
    return flat


def differing_parameters(
    specs: Sequence[run_pb2.RunSpec | None],
) -> list[gateway_service_pb2.ParameterDifference]:
    """The parameters that differ, by path; None stands for a subject without spec, such as a model version.

    A subject without spec has empty values. Beside a single spec it makes all
    of that spec's parameters differ; beside several only what differs among them counts.
    """
    flat = [flatten_spec(spec) if spec is not None else {} for spec in specs]
    paths = sorted({path for values in flat for path in values})
    rows = [(path, [values.get(path, "") for values in flat]) for path in paths]
    several = len(specs) - specs.count(None) > 1
    counted = [index for index, spec in enumerate(specs) if spec is not None or not several]
    return [
        gateway_service_pb2.ParameterDifference(path=path, values=values)
        for path, values in rows
        if len({values[index] for index in counted}) > 1
    ]


def _flatten(tree: Mapping[str, Any], prefix: str, into: dict[str, str]) -> None:
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            _flatten(value, f"{path}.", into)
        elif isinstance(value, list):
            into[path] = ", ".join(str(entry) for entry in value)
        elif isinstance(value, bool):
            into[path] = str(value).lower()
        elif isinstance(value, float):
            into[path] = f"{value:.12g}"
        else:
            into[path] = str(value)
