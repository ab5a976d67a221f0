"""The metrics of runs: stored packed, with their summaries, and read as points or as curves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from tunix_rt.registry import queue, runs
from tunix_rt.registry.curves import (
    NEVER,
    Part,
    Steps,
    Summary,
    Values,
    extend,
    is_rising,
    resolve,
    sample,
    summarise,
)
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.paging import resume_position, resume_token
from tunix_rt.registry.points import MAX_POINTS, Packed, curve_arrays, pack, unpack
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, NotFound, OutOfRange, Reason, ResourceExhausted
from tunix_rt.rpc.pages import page_size
from tunix_rt.v1 import registry_service_pb2, run_pb2

MAX_CURVES = 100
MAX_ANSWER_POINTS = 1_000_000
_CHUNK_ROWS = 4 * MAX_POINTS
_SUMMARY = tuple(Summary.__dataclass_fields__)

_INSERT_SUMMARIES = f"""
INSERT INTO metric_summary (run, metric, {", ".join(_SUMMARY)})
SELECT %(run)s, * FROM unnest(%(summary_metrics)s::text[], %(last)s::float8[], %(last_step)s::bigint[],
    %(min)s::float8[], %(min_step)s::bigint[], %(max)s::float8[], %(max_step)s::bigint[], %(count)s::bigint[])
ON CONFLICT (run, metric) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _SUMMARY)}
"""
_STORE = f"""
WITH chunks AS (
    INSERT INTO metric_chunks (run, attempt, batch_offset, metric, steps, points, times, offsets)
    SELECT %(run)s, %(attempt)s, %(offset)s, * FROM unnest(%(metrics)s::text[], %(steps)b::bytea[],
        %(values)b::bytea[], %(times)b::bytea[], %(offsets)b::bytea[])
), summaries AS ({_INSERT_SUMMARIES})
UPDATE metric_streams SET committed = %(committed)s, first_step = %(first_step)s
WHERE run = %(run)s AND attempt = %(attempt)s
"""


class MetricWriter:
    """The one writer of the metrics of an attempt; keeps the summaries between messages."""

    def __init__(self, run: str, attempt: int) -> None:
        self.run = names.require(run, names.RUN, "name")
        self.attempt = attempt
        self._committed = -1
        self._summaries: dict[str, Summary] = {}

    async def open(self, tx: Transaction) -> int:
        """How many points of the attempt are stored. Raises Aborted, reason LEASE_LOST."""
        await queue.hold(tx, self.run, self.attempt)
        await tx.execute(
            "INSERT INTO metric_streams (run, attempt) VALUES (%(run)s, %(attempt)s) ON CONFLICT DO NOTHING",
            run=self.run,
            attempt=self.attempt,
        )
        row = await self._lock(tx)
        return int(row["committed"])

    async def write(self, tx: Transaction, offset: int, points: Sequence[run_pb2.MetricPoint]) -> int:
        """Stores the points that are new, and returns how many are stored in all.

        Raises OutOfRange, reason STREAM_GAP, and Aborted, reason LEASE_LOST.
        """
        if len(points) > MAX_POINTS:
            raise ResourceExhausted(
                Reason.LIMIT_EXCEEDED,
                f"The message has {len(points)} points; at most {MAX_POINTS} fit. Send smaller batches.",
                {"limit": MAX_POINTS, "value": len(points)},
            )
        stream = await self._lock(tx)
        committed: int = stream["committed"]
        check_offset(offset, committed, self.run)
        if offset + len(points) <= committed:
            return committed
        batch = pack(points[committed - offset :] if committed > offset else points)
        end = offset + len(points)
        step = min(int(packed.steps.min()) for packed in batch)
        known = stream["first_step"]
        first_step = step if known is None else min(known, step)
        if first_step != known and self.attempt > 1:
            await self._store(tx, batch, committed, end, first_step, {})
            await self._summarise_again(tx, None)
        else:
            await self._store_and_extend(tx, batch, committed, end, first_step)
        self._committed = end
        return end

    async def _lock(self, tx: Transaction) -> Row:
        """The stream's row, locked, while the attempt holds its lease. Raises Aborted, reason LEASE_LOST."""
        row = await tx.one(
            "SELECT s.committed, s.first_step FROM jobs j JOIN metric_streams s ON s.run = j.name"
            " AND s.attempt = j.attempt WHERE j.name = %(run)s AND j.attempt = %(attempt)s AND j.state = 2"
            " FOR SHARE OF j FOR UPDATE OF s",
            run=self.run,
            attempt=self.attempt,
        )
        if row is None:
            await queue.hold(tx, self.run, self.attempt)
            raise NotFound(self.run)
        return row

    async def _store_and_extend(
        self, tx: Transaction, batch: Sequence[Packed], offset: int, end: int, first_step: int
    ) -> None:
        if self._committed != offset:
            self._summaries = {}
        missing = [packed.metric for packed in batch if packed.metric not in self._summaries]
        if missing:
            self._summaries |= await _load_summaries(tx, self.run, missing)
        extended: dict[str, Summary] = {}
        unordered: list[str] = []
        for packed in batch:
            before = self._summaries.get(packed.metric)
            if not is_rising(packed.steps) or (before and packed.steps[0] <= before.last_step):
                unordered.append(packed.metric)
            elif before:
                extended[packed.metric] = extend(before, packed.steps, packed.values)
            else:
                extended[packed.metric] = summarise(packed.steps, packed.values)
        await self._store(tx, batch, offset, end, first_step, extended)
        self._summaries |= extended
        if unordered:
            await self._summarise_again(tx, unordered)

    async def _store(
        self,
        tx: Transaction,
        batch: Sequence[Packed],
        offset: int,
        end: int,
        first_step: int,
        summaries: dict[str, Summary],
    ) -> None:
        await tx.execute(
            _STORE,
            run=self.run,
            attempt=self.attempt,
            offset=offset,
            committed=end,
            first_step=first_step,
            metrics=[packed.metric for packed in batch],
            steps=[packed.steps.tobytes() for packed in batch],
            values=[packed.values.tobytes() for packed in batch],
            times=[packed.times.tobytes() for packed in batch],
            offsets=[packed.offsets.tobytes() for packed in batch],
            **_summary_columns(summaries),
        )

    async def _summarise_again(self, tx: Transaction, metrics: list[str] | None) -> None:
        """Makes the summaries of some or all metrics from the stored points."""
        self._summaries = {}
        if metrics is None:
            rows = await tx.all("SELECT DISTINCT metric FROM metric_chunks WHERE run = %(run)s", run=self.run)
            metrics = [row["metric"] for row in rows]
        made: dict[str, Summary] = {}
        for metric in sorted(metrics):
            steps, values = (await _load_curves(tx, [self.run], metric)).get(self.run, (None, None))
            if steps is not None and values is not None and len(steps):
                made[metric] = summarise(steps, values)
        await tx.execute(
            "DELETE FROM metric_summary WHERE run = %(run)s AND metric = ANY(%(metrics)s::text[])",
            run=self.run,
            metrics=sorted(set(metrics) - made.keys()),
        )
        await tx.execute(_INSERT_SUMMARIES, run=self.run, **_summary_columns(made))


def check_offset(offset: int, committed: int, name: str) -> None:
    """Raises OutOfRange, reason STREAM_GAP, if the offset is beyond what is stored."""
    if offset < 0:
        raise InvalidArgument.of("offset", f"is {offset}; it must not be negative.")
    if offset > committed:
        raise OutOfRange(
            Reason.STREAM_GAP,
            f"offset is {offset}, but {committed} are stored for this attempt of `{name}`."
            f" Go on at {committed}.",
            {"resource": name, "offset": offset, "committed": committed},
        )


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
    for index, run in enumerate(request.runs):
        await runs.require(tx, run, f"runs[{index}]")
    made: dict[tuple[str, str], registry_service_pb2.Curve] = {}
    total = 0
    for metric in request.metrics:
        found = await _load_curves(tx, request.runs, metric)
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
    for field, values in (("runs", request.runs), ("metrics", request.metrics)):
        if not 1 <= len(values) <= MAX_CURVES:
            raise InvalidArgument.of(field, f"are {len(values)}; give from 1 to {MAX_CURVES}.")
        if len(set(values)) < len(values):
            raise InvalidArgument.of(field, "name one twice; give each once.")
    if request.max_points and not 2 <= request.max_points <= 10_000:
        raise InvalidArgument.of("max_points", f"is {request.max_points}; it must be from 2 to 10000.")
    return request.max_points or 1000


async def _load_curves(
    tx: Transaction, wanted: Sequence[str], metric: str
) -> dict[str, tuple[Steps, Values]]:
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


async def _load_summaries(tx: Transaction, run: str, metrics: Sequence[str]) -> dict[str, Summary]:
    rows = await tx.all(
        "SELECT * FROM metric_summary WHERE run = %(run)s AND metric = ANY(%(metrics)s::text[])",
        run=run,
        metrics=list(metrics),
    )
    return {row["metric"]: Summary(**{name: row[name] for name in _SUMMARY}) for row in rows}


def _summary_columns(summaries: dict[str, Summary]) -> dict[str, list[object]]:
    ordered = sorted(summaries)
    columns: dict[str, list[object]] = {"summary_metrics": list(ordered)}
    for name in _SUMMARY:
        columns[name] = [getattr(summaries[metric], name) for metric in ordered]
    return columns
