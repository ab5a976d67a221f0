"""Points in columns: read from messages, joined, and packed into one set of arrays for each metric."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.registry.curves import Steps, Times, Values
from tunix_rt.registry.database import Row
from tunix_rt.rpc.errors import InvalidArgument, Reason, ResourceExhausted, Violation
from tunix_rt.v1 import job_service_pb2, run_pb2

MAX_POINTS = 1000
_METRIC = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")
_MICROSECONDS = 1_000_000
_MAX_VIOLATIONS = 100
_MAX_STEP_VIOLATIONS = 20

Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Packed:
    """The points of one metric in one batch: little-endian, `offsets` counted from the batch's first."""

    metric: str
    steps: Steps
    values: Values
    times: Times
    offsets: Codes


@dataclass(frozen=True)
class Points:
    """Points in the order in which they were measured; `codes` are places in `metrics`."""

    metrics: tuple[str, ...]
    codes: Codes
    steps: Steps
    values: Values
    times: Times

    def __len__(self) -> int:
        return len(self.codes)

    def after(self, count: int) -> Points:
        """The points without so many first ones."""
        return Points(
            self.metrics, self.codes[count:], self.steps[count:], self.values[count:], self.times[count:]
        )

    def by_metric(self) -> Iterator[Packed]:
        """The points of each metric that has any, by rising name."""
        order = np.argsort(self.codes, kind="stable")
        bounds = np.searchsorted(self.codes[order], np.arange(len(self.metrics) + 1)).tolist()
        for code in sorted(range(len(self.metrics)), key=self.metrics.__getitem__):
            if (chosen := order[bounds[code] : bounds[code + 1]]).size:
                columns = (self.steps[chosen], self.values[chosen], self.times[chosen])
                yield Packed(self.metrics[code], *columns, chosen.astype("<i4"))


def join(parts: Sequence[Points]) -> Points:
    """The points of several messages, one after another."""
    if len(parts) == 1:
        return parts[0]
    known: dict[str, int] = {}
    codes = []
    for part in parts:
        own = [known.setdefault(metric, len(known)) for metric in part.metrics]
        codes.append(np.array(own, "<i4")[part.codes])
    steps, values, times = (
        np.concatenate([getattr(part, column) for part in parts]) for column in ("steps", "values", "times")
    )
    return Points(tuple(known), np.concatenate(codes), steps, values, times)


def read_points(request: job_service_pb2.StreamMetricsRequest) -> Points:
    """The points of a message. Raises InvalidArgument for bad names, steps and columns."""
    if request.points and request.HasField("columns"):
        raise InvalidArgument.of("columns", "and points exclude each other; send one.")
    count = len(request.points) or len(request.columns.steps)
    if count > MAX_POINTS:
        raise ResourceExhausted(
            Reason.LIMIT_EXCEEDED,
            f"The message has {count} points; at most {MAX_POINTS} fit. Send smaller batches.",
            {"limit": MAX_POINTS, "value": count},
        )
    return _of_columns(request.columns) if request.HasField("columns") else _of_points(request.points)


def _of_points(points: Sequence[run_pb2.MetricPoint]) -> Points:
    known: dict[str, int] = {}
    first: dict[str, int] = {}
    codes = np.empty(len(points), "<i4")
    for index, point in enumerate(points):
        metric = point.metric
        codes[index] = known.setdefault(metric, len(known))
        first.setdefault(metric, index)
    steps = np.array([point.step for point in points], "<i8")
    values = np.array([point.value for point in points], "<f8")
    times = np.array([_microseconds(point.measure_time) for point in points], "<i8")
    found = _name_violations([(f"points[{index}].metric", metric) for metric, index in first.items()])
    found += _step_violations("points[{}].step", steps)
    if found:
        raise InvalidArgument(found[:_MAX_VIOLATIONS])
    return Points(tuple(known), codes, steps, values, times)


def _of_columns(columns: job_service_pb2.MetricColumns) -> Points:
    codes = np.asarray(columns.metric_indices, "<i4")
    steps = np.asarray(columns.steps, "<i8")
    values = np.asarray(columns.values, "<f8")
    times = np.asarray(columns.measure_times_us, "<i8")
    metrics = tuple(columns.metrics)
    found = [
        Violation(f"columns.{name}", f"has {len(column)} entries, but columns.steps has {len(steps)}.")
        for name, column in (("metric_indices", codes), ("values", values), ("measure_times_us", times))
        if len(column) != len(steps)
    ]
    found += _name_violations([(f"columns.metrics[{index}]", metric) for index, metric in enumerate(metrics)])
    if len(set(metrics)) < len(metrics):
        found.append(Violation("columns.metrics", "name one twice; give each once."))
    for index in np.flatnonzero((codes < 0) | (codes >= len(metrics)))[:_MAX_STEP_VIOLATIONS].tolist():
        text = f"is {codes[index]}; it must be from 0 and below {len(metrics)}, the number of metrics."
        found.append(Violation(f"columns.metric_indices[{index}]", text))
    found += _step_violations("columns.steps[{}]", steps)
    if found:
        raise InvalidArgument(found[:_MAX_VIOLATIONS])
    return Points(metrics, codes, steps, values, times)


def unpack(rows: Sequence[Row], *, first_offset: int) -> list[tuple[int, run_pb2.MetricPoint]]:
    """The points, with their offsets from `first_offset` on, of all chunks of one batch, in order."""
    metrics = [row["metric"] for row in rows]
    sizes = [len(row["offsets"]) // 4 for row in rows]
    codes = np.repeat(np.arange(len(rows)), sizes)
    offsets = np.frombuffer(_joined(rows, "offsets"), "<i4").astype(np.int64) + rows[0]["batch_offset"]
    order = np.argsort(offsets)
    order = order[offsets[order] >= first_offset]
    attempt = rows[0]["attempt"]
    made = []
    types = (("steps", "<i8"), ("points", "<f8"), ("times", "<i8"))
    columns = (codes, offsets, *(np.frombuffer(_joined(rows, name), dtype) for name, dtype in types))
    for code, offset, step, value, time in zip(*(each[order].tolist() for each in columns), strict=True):
        point = run_pb2.MetricPoint(metric=metrics[code], step=step, value=value, attempt=attempt)
        point.measure_time.seconds, rest = divmod(time, _MICROSECONDS)
        point.measure_time.nanos = rest * 1000
        made.append((offset, point))
    return made


def _microseconds(moment: Timestamp) -> int:
    return moment.seconds * _MICROSECONDS + moment.nanos // 1000


def _joined(rows: Sequence[Row], column: str) -> bytes:
    return b"".join(row[column] for row in rows)


def _name_violations(metrics: Sequence[tuple[str, str]]) -> list[Violation]:
    text = "it must be like `train/loss`: letters, digits and `_./-`, at most 200."
    return [
        Violation(field, f"is `{metric[:80]}`; {text}")
        for field, metric in metrics
        if not _METRIC.fullmatch(metric)
    ]


def _step_violations(field: str, steps: Steps) -> list[Violation]:
    return [
        Violation(field.format(index), f"is {steps[index]}; steps count from 1.")
        for index in np.flatnonzero(steps < 1)[:_MAX_STEP_VIOLATIONS].tolist()
    ]
