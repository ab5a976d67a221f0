"""The points of a run, in the order in which they were stored."""

from __future__ import annotations

from itertools import groupby

from tunix_rt.registry.database import Transaction
from tunix_rt.registry.paging import resume_position, resume_token
from tunix_rt.registry.points import unpack
from tunix_rt.rpc.errors import NotFound
from tunix_rt.rpc.pages import page_size
from tunix_rt.v1 import registry_service_pb2, run_pb2


async def list_points(
    tx: Transaction, request: registry_service_pb2.ListMetricsRequest
) -> registry_service_pb2.ListMetricsResponse:
    """The points after the resume token, in the order in which they were stored."""
    size = page_size(request.page_size, default=1000, maximum=10_000)
    attempt, offset = resume_position(request.resume_token, request.run)
    job = await tx.one("SELECT state FROM jobs WHERE name = %(run)s", run=request.run)
    if job is None:
        raise NotFound(request.run)
    response = registry_service_pb2.ListMetricsResponse(state=job["state"])
    while (left := size - len(response.points)) > 0:
        found = await _points_after(tx, request.run, attempt, offset, left)
        if found:
            response.points.extend(point for _, point in found[:left])
            offset = found[:left][-1][0] + 1
            continue
        newer = await tx.one(
            "SELECT min(attempt) AS attempt FROM metric_chunks WHERE run = %(run)s AND attempt > %(attempt)s",
            run=request.run,
            attempt=attempt,
        )
        if newer is None or newer["attempt"] is None:
            break
        attempt, offset = newer["attempt"], 0
    response.resume_token = resume_token(attempt, offset, request.run)
    return response


async def _points_after(
    tx: Transaction, run: str, attempt: int, offset: int, count: int
) -> list[tuple[int, run_pb2.MetricPoint]]:
    """At least `count` points of an attempt with their numbers, from `offset` on, or those that there are."""
    rows = await tx.all(
        "SELECT * FROM metric_chunks WHERE run = %(run)s AND attempt = %(attempt)s AND batch_offset >="
        " coalesce((SELECT max(batch_offset) FROM metric_chunks WHERE run = %(run)s"
        " AND attempt = %(attempt)s AND batch_offset <= %(offset)s), 0)"
        " AND batch_offset < %(end)s ORDER BY batch_offset",
        run=run,
        attempt=attempt,
        offset=offset,
        end=offset + count,
    )
    batches = [list(group) for _, group in groupby(rows, lambda row: row["batch_offset"])]
    return [each for batch in batches for each in unpack(batch, first_offset=offset)]
