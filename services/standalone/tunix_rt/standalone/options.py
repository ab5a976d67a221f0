"""The options that commands share, and the parsing of `key=value` texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.state import STATE_VARIABLE

GatewayOption = Annotated[
    str | None,
    typer.Option(
        "--gateway",
        envvar="TUNIX_RT_GATEWAY",
        metavar="HOST:PORT",
        help="The gateway; else that of the stack in the state folder, else 127.0.0.1:50050.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print protobuf JSON; errors as JSON on stderr.")]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", envvar=STATE_VARIABLE, metavar="DIR", help="The state folder; else ./.tunix-rt."),
]
LimitOption = Annotated[
    int, typer.Option("--limit", min=1, max=1000, help="At most this many, newest first.")
]


def parse_values(texts: list[str], field: str) -> dict[str, object]:
    """`["digits=2", "name=x"]` as `{"digits": 2, "name": "x"}`; values are JSON where they can be.

    Raises InvalidArgument.
    """
    values: dict[str, object] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise InvalidArgument.of(field, f"is `{text}`; give key=value.")
        try:
            values[key] = json.loads(value)
        except json.JSONDecodeError:
            values[key] = value
    return values


def parse_labels(texts: list[str], field: str = "label") -> dict[str, str]:
    """`["team=red"]` as `{"team": "red"}`. Raises InvalidArgument."""
    labels = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise InvalidArgument.of(field, f"is `{text}`; give key=value.")
        labels[key] = value
    return labels


def parse_splits(text: str, field: str = "splits") -> dict[str, float]:
    """`train=0.8,test=0.2` as fractions by name. Raises InvalidArgument."""
    splits: dict[str, float] = {}
    for part in text.split(",") if text else []:
        name, sign, share = part.strip().partition("=")
        try:
            if not sign or not name or name in splits:
                raise ValueError
            splits[name] = float(share)
        except ValueError as error:
            raise InvalidArgument.of(
                field, f"has the part `{part}`; give shares such as train=0.8,validation=0.1,test=0.1."
            ) from error
    return splits
