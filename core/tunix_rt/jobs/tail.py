"""Follows a file that grows and numbers the items in its lines: the file is the queue."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

MAX_ITEMS = 1000
MAX_LINE_BYTES = 16 * 1024
_READ_BYTES = 256 * 1024

T = TypeVar("T")


@dataclass(frozen=True)
class Batch(Generic[T]):
    """Items in a row; `offset` is the number of the first one."""

    offset: int
    items: list[T]

    @property
    def end(self) -> int:
        """The number after the last item."""
        return self.offset + len(self.items)


@dataclass(frozen=True)
class _Mark:
    position: int
    offset: int


class Tail(Generic[T]):
    """The items in the lines of a file that may not exist yet.

    `parse` gives the items of a line without its line end. A line above 16 KiB
    is cut into lines of 16 KiB. With `keep_partial` a last line without line
    end counts when the file has ended; otherwise it is left out.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], list[T]], *, keep_partial: bool) -> None:
        self._path = path
        self._parse = parse
        self._keep_partial = keep_partial
        self._acknowledged = self._next = _Mark(0, 0)
        self._in_flight: deque[_Mark] = deque()
        self._skip = 0

    def seek(self, committed: int) -> None:
        """Goes on at the item with this number, after what was sent is given up."""
        self.acknowledge(committed)
        if committed < self._acknowledged.offset:
            self._acknowledged = _Mark(0, 0)
        self._next = self._acknowledged
        self._in_flight.clear()
        self._skip = committed

    def acknowledge(self, committed: int) -> None:
        """Forgets what is stored durably, counted in items from the start."""
        while self._in_flight and self._in_flight[0].offset <= committed:
            self._acknowledged = self._in_flight.popleft()

    @property
    def acknowledged_bytes(self) -> int:
        """How many bytes of the file, from its start, hold only items that are stored durably."""
        return self._acknowledged.position

    def read(self, *, ended: bool) -> Batch[T] | None:
        """The next items, at most 1000, or None if there are none yet.

        Raises ValueError for a line that cannot be parsed.
        """
        while True:
            before = self._next
            items, self._next = self._read_whole_lines(before, ended=ended)
            dropped = max(0, min(self._skip - before.offset, len(items)))
            if len(items) > dropped:
                self._in_flight.append(self._next)
                return Batch(before.offset + dropped, items[dropped:])
            if self._next == before:
                return None

    def _read_whole_lines(self, mark: _Mark, *, ended: bool) -> tuple[list[T], _Mark]:
        items: list[T] = []
        position = mark.position
        for line, end in self._lines(position, ended=ended):
            found = self._parse(line)
            if len(items) + len(found) > MAX_ITEMS:
                if not items:
                    raise ValueError(f"{self._path.name} has a line with more than {MAX_ITEMS} items")
                break
            items += found
            position = end
        return items, _Mark(position, mark.offset + len(items))

    def _lines(self, position: int, *, ended: bool) -> Iterator[tuple[bytes, int]]:
        try:
            with self._path.open("rb") as file:
                file.seek(position)
                data = file.read(_READ_BYTES)
        except FileNotFoundError:
            return
        whole = len(data) < _READ_BYTES
        start = 0
        while start < len(data):
            limit = start + MAX_LINE_BYTES
            end = data.find(b"\n", start, limit + 1)
            if end >= 0:
                line, start = data[start:end], end + 1
            elif len(data) > limit:
                line, start = data[start:limit], limit
            elif ended and whole and self._keep_partial:
                line, start = data[start:], len(data)
            else:
                return
            yield line, position + start


def whole_lines_bytes(path: Path) -> int:
    """How many bytes of a file, from its start, are whole lines; 0 if there is no file."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, 2) - _READ_BYTES)
            file.seek(start)
            return start + file.read().rfind(b"\n") + 1
    except FileNotFoundError:
        return 0


def log_lines(line: bytes) -> list[str]:
    """The text of a log line; what is no UTF-8, and NUL, is replaced."""
    return [line.removesuffix(b"\r").decode("utf-8", "replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")]


class Measured(NamedTuple):
    """A value of a metric at a step, with its time in microseconds since 1970."""

    metric: str
    step: int
    value: float
    time_us: int


def metric_points(line: bytes) -> list[Measured]:
    """The points of a line of `metrics.jsonl`, by metric. Raises ValueError if it is none."""
    try:
        row = json.loads(line)
        step = int(row["step"])
        moment = round(float(row["time"]) * 1e6)
        return [Measured(name, step, float(value), moment) for name, value in sorted(row["values"].items())]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"metrics.jsonl has a broken line: {line[:200]!r}") from error
