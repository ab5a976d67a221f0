"""The metrics of runs: stored packed, with their summaries, and read as points or as curves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from tunix_rt.registry.curves import (
    NEVER,
    Part,
    Steps,
    Summary,
    Values,
    resolve,
    sample,
)
from tunix_rt.registry.database import Transaction
from tunix_rt.registry.paging import resume_position, resume_token
from tunix_rt.registry.points import MAX_POINTS, curve_arrays, unpack
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, NotFound
from tunix_rt.rpc.pages import page_size
from tunix_rt.v1 import registry_service_pb2

MAX_CURVES = 100
MAX_ANSWER_POINTS = 1_000_000
_CHUNK_ROWS = 4 * MAX_POINTS
_SUMMARY = tuple(Summary.__dataclass_fields__)


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


async def get_curves(
    tx: Transaction, request: registry_service_pb2.GetCurvesRequest
) -> registry_service_pb2.GetCurvesResponse:
    """Curves by run and metric, sampled on one grid for each metric."""
    budget = _check_curves(request)
    known = await tx.all("SELECT name FROM runs WHERE name = ANY(%(runs)s::text[])", runs=list(request.runs))
    if absent := set(request.runs) - {row["name"] for row in known}:
        raise NotFound(min(absent))
    made: dict[tuple[str, str], registry_service_pb2.Curve] = {}
    total = 0
    for metric in request.metrics:
        found = await load_curves(tx, request.runs, metric)
        found = {run: curve for run, curve in found.items() if len(curve[0])}
        first = min((int(steps[0]) for steps, _ in found.values()), default=0)
        last = max((int(steps[-1]) for steps, _ in found.values()), default=0)
        for run, (steps, values) in found.items():
            kept, sampled = sample(steps, values, budget, first_step=first, last_step=last)
            made[run, metric] = registry_service_pb2.Curve(
                run=run, metric=metric, steps=kept.tolist(), values=sampled.tolist(), total_count=len(steps)
            )
            total += len(kept)
        if total > MAX_ANSWER_POINTS:
            text = f"is {budget}, with which the answer passes {MAX_ANSWER_POINTS} points. Lower it."
            raise InvalidArgument.of("max_points", text)
    return registry_service_pb2.GetCurvesResponse(
        curves=[made[r, m] for r in request.runs for m in request.metrics if (r, m) in made]
    )


def _check_curves(request: registry_service_pb2.GetCurvesRequest) -> int:
    bad = [names.check(run, names.RUN, f"runs[{index}]") for index, run in enumerate(request.runs)]
    if violations := [each for each in bad if each]:
        raise InvalidArgument(violations[:MAX_CURVES])
    for field, values in (("runs", request.runs), ("metrics", request.metrics)):
        if not 1 <= len(values) <= MAX_CURVES:
            raise InvalidArgument.of(field, f"are {len(values)}; give from 1 to {MAX_CURVES}.")
        if len(set(values)) < len(values):
            raise InvalidArgument.of(field, "name one twice; give each once.")
    if request.max_points and not 2 <= request.max_points <= 10_000:
        raise InvalidArgument.of("max_points", f"is {request.max_points}; it must be from 2 to 10000.")
    return request.max_points or 1000


async def load_curves(tx: Transaction, wanted: Sequence[str], metric: str) -> dict[str, tuple[Steps, Values]]:
    """The points of a metric that count, for each run that has any."""
    streams = await tx.all(
        "SELECT run, attempt, first_step FROM metric_streams WHERE run = ANY(%(runs)s::text[])"
        " AND first_step IS NOT NULL",
        runs=list(wanted),
    )
    rows = await tx.all(
        "SELECT run, attempt, steps, points FROM metric_chunks WHERE run = ANY(%(runs)s::text[])"
        " AND metric = %(metric)s ORDER BY run, attempt, batch_offset",
        runs=list(wanted),
        metric=metric,
    )
    made = {}
    for run, of_run in groupby(rows, lambda row: str(row["run"])):
        parts = []
        for attempt, chunks in groupby(of_run, lambda row: int(row["attempt"])):
            newer = [s["first_step"] for s in streams if s["run"] == run and s["attempt"] > attempt]
            parts.append(Part(*curve_arrays(list(chunks)), end_step=min(newer, default=NEVER)))
        made[run] = resolve(parts)
    return made
