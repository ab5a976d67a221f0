"""Joins the messages of a stream that have come so far, so that one commit stores them all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tunix_rt.registry.points import MAX_POINTS, Points, join, read_points
from tunix_rt.rpc.errors import ApiError
from tunix_rt.v1 import job_service_pb2


@dataclass(frozen=True)
class Batch:
    """The points of messages in a row; `ends` are the numbers after the last point of each message."""

    offset: int
    points: Points
    ends: tuple[int, ...]


def batches(requests: Iterable[job_service_pb2.StreamMetricsRequest]) -> Iterator[Batch]:
    """The messages that have points, joined where each goes on after the one before.

    Raises InvalidArgument and ResourceExhausted after those that came before the bad message.
    """
    offset, parts = 0, list[Points]()
    try:
        for request in requests:
            points = read_points(request)
            if parts and not _goes_on(offset, parts, request.offset, points):
                yield _joined(offset, parts)
                parts = []
            if not parts:
                offset = request.offset
            if len(points):
                parts.append(points)
    except ApiError:
        if parts:
            yield _joined(offset, parts)
        raise
    if parts:
        yield _joined(offset, parts)


def _goes_on(offset: int, parts: list[Points], next_offset: int, points: Points) -> bool:
    metrics = {metric for part in (*parts, points) for metric in part.metrics}
    return next_offset == offset + sum(map(len, parts)) and len(metrics) <= MAX_POINTS


def _joined(offset: int, parts: list[Points]) -> Batch:
    ends, end = [], offset
    for part in parts:
        end += len(part)
        ends.append(end)
    return Batch(offset, join(parts), tuple(ends))
