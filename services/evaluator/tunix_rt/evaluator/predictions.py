"""Predictions that were made elsewhere: checked against the items of a split and put in order."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from tunix_rt.rpc.errors import InvalidArgument, Reason, ResourceExhausted, Violation
from tunix_rt.traces.predictions import (
    DEFAULT_FINISH_REASON,
    Prediction,
    canonical_prediction,
    finish_fault,
)
from tunix_rt.traces.trace import Trace
from tunix_rt.v1 import evaluator_service_pb2 as pb

MAX_MESSAGE_PREDICTIONS = 1000
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_PREDICTIONS = 1_000_000
MAX_BYTES = 512 * 1024 * 1024  # the worker holds all outputs of an evaluation at once
MAX_OUTPUT_BYTES = 1024 * 1024
MAX_NAMED = 100
_SHOWN_MISSING = 20
_SHOWN_ID = 80


class Faults:
    """The first bad fields of a stream, and the number of all."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[Violation] = []

    def add(self, field: str, description: str) -> None:
        """Notes a bad field."""
        self.count += 1
        if len(self._first) < MAX_NAMED:
            self._first.append(Violation(field, description))

    def refuse(self) -> None:
        """Raises InvalidArgument that names the first bad fields, after their number if there are more."""
        if not self.count:
            return
        text = f"has {self.count} faults, of which the first are named. Nothing was stored."
        total = [Violation("predictions", text)] if self.count > MAX_NAMED else []
        raise InvalidArgument([*total, *self._first])


class Collection:
    """Takes predictions in any order and writes them by item and sample; blocks.

    `traces` are the items by position, each of which needs `samples` outputs. `spool` holds the outputs as
    they come. Faults are kept until all predictions are there.
    """

    def __init__(self, traces: Sequence[Trace], samples: int, spool: BinaryIO) -> None:
        self._traces = traces
        self._samples = samples
        self._positions = {trace.id: position for position, trace in enumerate(traces)}
        self._spool = spool
        self._starts = array("q", [-1]) * (len(traces) * samples)  # where the line of a place begins
        self._rows = array("q", [-1]) * (len(traces) * samples)  # which prediction it was
        self._end = 0  # of the spool
        self._count = 0
        self._size_bytes = 0
        self._faults = Faults()

    def add(self, predictions: Sequence[pb.Prediction]) -> None:
        """Takes the next predictions. Raises ResourceExhausted, reason LIMIT_EXCEEDED."""
        for each in predictions:
            self._size_bytes += len(each.trace_id) + each.ByteSize()
            self._add(each, self._count)
            self._count += 1
        if self._size_bytes > MAX_BYTES:
            raise too_large("All messages together have more than", MAX_BYTES, "bytes", self._size_bytes)
        if self._count > MAX_PREDICTIONS:
            raise too_large("The stream has more than", MAX_PREDICTIONS, "predictions", self._count)

    def write(self, target: BinaryIO) -> None:
        """Writes a canonical line for each sample of each item, in their order.

        Raises InvalidArgument that names what was wrong with the predictions, and which are missing.
        """
        self._note_missing()
        self._faults.refuse()
        for start in self._starts:
            self._spool.seek(start)
            target.write(self._spool.readline())

    def _add(self, given: pb.Prediction, row: int) -> None:
        field = f"predictions[{row}]"
        before = self._faults.count
        finish_reason = given.finish_reason or DEFAULT_FINISH_REASON
        if len(given.output.encode()) > MAX_OUTPUT_BYTES:
            self._faults.add(f"{field}.output", f"is longer than {MAX_OUTPUT_BYTES} bytes; shorten it.")
        if fault := finish_fault(finish_reason, given.output):
            self._faults.add(f"{field}.finish_reason", fault)
        place = self._place(given, field)
        if place is None:
            return
        if self._rows[place] >= 0:
            text = f"is `{given.trace_id[:_SHOWN_ID]}`, sample {given.sample}, as in"
            self._faults.add(f"{field}.trace_id", f"{text} predictions[{self._rows[place]}]; send it once.")
            return
        self._rows[place] = row
        if self._faults.count == before:
            self._starts[place] = self._end
            prediction = Prediction(given.trace_id, given.output, given.sample, finish_reason)
            self._end += self._spool.write(canonical_prediction(prediction))

    def _place(self, given: pb.Prediction, field: str) -> int | None:
        """The number of the output among all that are wanted; None where there is no such output."""
        position = self._positions.get(given.trace_id)
        if position is None:
            name = f"is `{given.trace_id[:_SHOWN_ID]}`" if given.trace_id else "is empty"
            self._faults.add(f"{field}.trace_id", f"{name}; it must be the id of an item that is evaluated.")
        if not 0 <= given.sample < self._samples:
            text = f"is {given.sample}; it must be in [0, {self._samples - 1}], by `spec.samples`."
            self._faults.add(f"{field}.sample", text)
            return None
        return None if position is None else position * self._samples + given.sample

    def _note_missing(self) -> None:
        """Notes once which outputs are missing; those that came with a fault are not."""
        missing = sum(row < 0 for row in self._rows)
        if not missing:
            return
        shown = [self._name(place) for place in self._missing_places()]
        more = f" and {missing - len(shown)} more" if missing > len(shown) else ""
        text = (
            f"lacks {missing} of {len(self._rows)} outputs: {', '.join(shown)}{more}. "
            "Send one for each item and sample, or set `spec.limit`."
        )
        self._faults.add("predictions", text)

    def _missing_places(self) -> Iterator[int]:
        found = 0
        for place, row in enumerate(self._rows):
            if row < 0:
                yield place
                found += 1
                if found == _SHOWN_MISSING:
                    return

    def _name(self, place: int) -> str:
        position, sample = divmod(place, self._samples)
        name = f"`{self._traces[position].id[:_SHOWN_ID]}`"
        return f"{name} sample {sample}" if self._samples > 1 else name


def check_message(message: pb.ScorePredictionsRequest) -> None:
    """Raises ResourceExhausted, reason LIMIT_EXCEEDED, for a message that is too large."""
    if len(message.predictions) > MAX_MESSAGE_PREDICTIONS:
        count = len(message.predictions)
        raise too_large("A message has more than", MAX_MESSAGE_PREDICTIONS, "predictions", count)
    if message.ByteSize() > MAX_MESSAGE_BYTES:
        raise too_large("A message has more than", MAX_MESSAGE_BYTES, "bytes", message.ByteSize())


def too_large(what: str, limit: int, unit: str, value: int) -> ResourceExhausted:
    """The error of a limit that is passed."""
    return ResourceExhausted(
        Reason.LIMIT_EXCEEDED,
        f"{what} {limit} {unit}. Send smaller messages, or score parts of the dataset by themselves.",
        {"limit": limit, "value": value},
    )
