"""What the start of a file looks like to people, without running anything in it."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

HEAD_BYTES = 256 * 1024
IMAGE_BYTES = 8 * 1024 * 1024
LINES = 200
LINE_CHARACTERS = 2000
TENSORS = 1000
CELLS = 30
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Preview:
    """A text, a table, or an image; `note` says what is left out."""

    kind: str
    note: str = ""
    text: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def preview(path: str, size_bytes: int, head: bytes) -> Preview:
    """The preview of a file by its first bytes: they decide, the name only says how text is laid out.

    HTML and SVG are text here.
    """
    if not size_bytes:
        return Preview("none", "The file is empty.")
    if is_png(head):
        if size_bytes > IMAGE_BYTES:
            return Preview("none", f"An image of more than {IMAGE_BYTES >> 20} MiB is not shown.")
        return Preview("image")
    if path.endswith(".safetensors"):
        return _tensors(head)
    text = _text(head, whole=len(head) == size_bytes)
    if text is None:
        return Preview("none", "No preview of binary data.")
    if path.endswith(".csv"):
        return _table(text, whole=len(head) == size_bytes)
    if path.endswith(".json") and len(head) == size_bytes:
        text = _indented(text)
    return _lines(text, whole=len(head) == size_bytes)


def is_png(head: bytes) -> bool:
    """Whether bytes begin as a PNG image does."""
    return head.startswith(_PNG)


def _text(head: bytes, *, whole: bool) -> str | None:
    """The text in UTF-8; None if it is none. Of a part, a character that is cut off is left out."""
    if b"\0" in head:
        return None
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return None


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _lines(text: str, *, whole: bool) -> Preview:
    lines = text.splitlines()
    shown = [
        line if len(line) <= LINE_CHARACTERS else line[:LINE_CHARACTERS] + " …" for line in lines[:LINES]
    ]
    all_shown = whole and len(lines) <= LINES
    return Preview("text", "" if all_shown else f"The first {len(shown)} lines.", text="\n".join(shown))


def _table(text: str, *, whole: bool) -> Preview:
    lines = text.splitlines(keepends=True)
    reader = csv.reader(io.StringIO("".join(lines[: LINES + 1] if whole else lines[:-1][: LINES + 1])))
    try:
        rows = [[cell[:LINE_CHARACTERS] for cell in row[:CELLS]] for row in reader]
    except csv.Error:
        return _lines(text, whole=whole)
    if not rows:
        return _lines(text, whole=whole)
    all_shown = whole and len(lines) <= LINES + 1
    note = "" if all_shown else f"The first {len(rows) - 1} rows."
    return Preview("table", note, columns=rows[0], rows=rows[1:])


def _tensors(head: bytes) -> Preview:
    length = int.from_bytes(head[:8], "little")
    if length > len(head) - 8:
        return Preview("none", f"A header of {length:,} bytes is not shown.")
    try:
        header = json.loads(head[8 : 8 + length])
        tensors = [
            (name, str(entry["dtype"]), [int(n) for n in entry["shape"]])
            for name, entry in header.items()
            if name != "__metadata__"
        ]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return Preview("none", "The file's header cannot be read as that of safetensors.")
    count = sum(math.prod(shape) for _, _, shape in tensors)
    note = f"{len(tensors):,} tensors, {count:,} numbers."
    if len(tensors) > TENSORS:
        note += f" The first {TENSORS:,} are shown."
    rows = [
        (name, dtype, " × ".join(map(str, shape)), f"{math.prod(shape):,}")
        for name, dtype, shape in tensors[:TENSORS]
    ]
    return Preview("tensors", note, columns=("tensor", "type", "shape", "numbers"), rows=rows)
