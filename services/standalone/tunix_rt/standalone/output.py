"""What commands print: tables for people on standard output, or protobuf JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

_PIPED_WIDTH = 200  # what is piped into a file or a pager is not cut to 80 columns


def _console(stream: TextIO, *, stderr: bool) -> Console:
    piped = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(stderr=stderr, highlight=False, width=_PIPED_WIDTH if piped else None)


console = _console(sys.stdout, stderr=False)
errors = _console(sys.stderr, stderr=True)


def new_table(*columns: str, title: str | None = None, lines: bool = False) -> Table:
    """A table whose cells wrap rather than lose text."""
    table = Table(title=title, title_justify="left", show_lines=lines)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def message_dict(message: Message) -> dict[str, object]:
    """A message as protobuf JSON with the field names of the proto."""
    return MessageToDict(message, preserving_proto_field_name=True)


def print_json(message: Message | dict[str, object], *, line: bool = False) -> None:
    """Prints a message as JSON, indented or on one line."""
    values = message_dict(message) if isinstance(message, Message) else message
    text = json.dumps(values, ensure_ascii=False, indent=None if line else 2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
