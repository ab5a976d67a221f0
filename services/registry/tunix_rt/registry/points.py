"""Points packed into arrays, one set of arrays for each metric of a message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.registry.curves import Steps, Values
from tunix_rt.registry.database import Row
from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.v1 import run_pb2

MAX_POINTS = 1000
_METRIC = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")
_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Packed:
    """The points of one metric in one message: little-endian, `offsets` counted from the message's first."""

    metric: str
    steps: Steps
    values: Values
    times: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int32]


def pack(points: Sequence[run_pb2.MetricPoint]) -> list[Packed]:
    """The points by metric. Raises InvalidArgument for bad names and steps."""
    metrics = [point.metric for point in points]
    steps = np.array([point.step for point in points], "<i8")
    values = np.array([point.value for point in points], "<f8")
    times = np.array([_microseconds(point.measure_time) for point in points], "<i8")
    codes: dict[str, list[int]] = {}
    for index, metric in enumerate(metrics):
        codes.setdefault(metric, []).append(index)
    _check(codes, steps)
    made = []
    for metric in sorted(codes):
        chosen = np.array(codes[metric], "<i4")
        made.append(Packed(metric, steps[chosen], values[chosen], times[chosen], chosen))
    return made


def unpack(rows: Sequence[Row], *, first_offset: int) -> list[tuple[int, run_pb2.MetricPoint]]:
    """The points, with their offsets from `first_offset` on, of all chunks of one message, in order."""
    metrics = [row["metric"] for row in rows]
    sizes = [len(row["offsets"]) // 4 for row in rows]
    codes = np.repeat(np.arange(len(rows)), sizes)
    offsets = np.frombuffer(_joined(rows, "offsets"), "<i4").astype(np.int64) + rows[0]["batch_offset"]
    order = np.argsort(offsets)
    order = order[offsets[order] >= first_offset]
    attempt = rows[0]["attempt"]
    made = []
    columns = (codes, offsets, *curve_arrays(rows), np.frombuffer(_joined(rows, "times"), "<i8"))
    for code, offset, step, value, time in zip(*(each[order].tolist() for each in columns), strict=True):
        point = run_pb2.MetricPoint(metric=metrics[code], step=step, value=value, attempt=attempt)
        point.measure_time.seconds, rest = divmod(time, _MICROSECONDS)
        point.measure_time.nanos = rest * 1000
        made.append((offset, point))
    return made


def curve_arrays(rows: Sequence[Row]) -> tuple[Steps, Values]:
    """Steps and values of the chunks of one metric and attempt, in their order."""
    return np.frombuffer(_joined(rows, "steps"), "<i8"), np.frombuffer(_joined(rows, "points"), "<f8")


def _microseconds(moment: Timestamp) -> int:
    return moment.seconds * _MICROSECONDS + moment.nanos // 1000


def _joined(rows: Sequence[Row], column: str) -> bytes:
    return b"".join(row[column] for row in rows)


def _check(codes: dict[str, list[int]], steps: Steps) -> None:
    found = [
        Violation(
            f"points[{indices[0]}].metric",
            f"is `{metric[:80]}`; it must be like `train/loss`: letters, digits and `_./-`, at most 200.",
        )
        for metric, indices in codes.items()
        if not _METRIC.fullmatch(metric)
    ]
    for index in np.flatnonzero(steps < 1)[:20].tolist():
        text = f"is {steps[index]}; steps count from 1."
        found.append(Violation(f"points[{index}].step", text))
    if found:
        raise InvalidArgument(found[:100])
