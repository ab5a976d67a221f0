"""What commands print: tables for people on standard output, or protobuf JSON for programs."""

from __future__ import annotations

import json
import sys

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def message_dict(message: Message) -> dict[str, object]:
    """A message as protobuf JSON with the field names of the proto."""
    return MessageToDict(message, preserving_proto_field_name=True)


def print_json(message: Message | dict[str, object], *, line: bool = False) -> None:
    """Prints a message as JSON, indented or on one line."""
    values = message_dict(message) if isinstance(message, Message) else message
    text = json.dumps(values, ensure_ascii=False, indent=None if line else 2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
