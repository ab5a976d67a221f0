"""The points of a run, in the order in which they were stored."""

from __future__ import annotations

from itertools import groupby

from tunix_rt.registry.database import Transaction
from tunix_rt.registry.paging import resume_position, resume_token
from tunix_rt.registry.points import MAX_POINTS, unpack
from tunix_rt.rpc.errors import NotFound
from tunix_rt.rpc.pages import page_size
from tunix_rt.v1 import registry_service_pb2

_CHUNK_ROWS = 4 * MAX_POINTS


async def list_points(
    tx: Transaction, request: registry_service_pb2.ListMetricsRequest
) -> registry_service_pb2.ListMetricsResponse:
    """The points after the resume token, in the order in which they were stored."""
    size = page_size(request.page_size, default=1000, maximum=10_000)
    attempt, offset = resume_position(request.resume_token, request.run)
    job = await tx.one("SELECT state FROM jobs WHERE name = %(run)s", run=request.run)
    if job is None:
        raise NotFound(request.run)
    limit = min(_CHUNK_ROWS, size + 2 * MAX_POINTS)
    rows = await tx.all(
        "SELECT * FROM metric_chunks WHERE run = %(run)s AND (attempt, batch_offset) >= (%(attempt)s,"
        " coalesce((SELECT max(batch_offset) FROM metric_chunks WHERE run = %(run)s"
        " AND attempt = %(attempt)s AND batch_offset <= %(offset)s), 0))"
        " ORDER BY attempt, batch_offset LIMIT %(limit)s",
        run=request.run,
        attempt=attempt,
        offset=offset,
        limit=limit,
    )
    response = registry_service_pb2.ListMetricsResponse(state=job["state"])
    batches = [list(group) for _, group in groupby(rows, lambda row: (row["attempt"], row["batch_offset"]))]
    if len(rows) == limit:
        batches.pop()  # may lack chunks beyond the limit
    for batch in batches:
        after = offset if batch[0]["attempt"] == attempt else 0
        for position, point in unpack(batch, first_offset=after)[: size - len(response.points)]:
            response.points.append(point)
            attempt, offset = point.attempt, position + 1
        if len(response.points) >= size:
            break
    response.resume_token = resume_token(attempt, offset, request.run)
    return response
