"""Stores the metrics of an attempt, packed, with the summaries in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.registry import queue
from tunix_rt.registry.curves import Summary, extend, is_rising, summarise
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.metrics import load_curves
from tunix_rt.registry.points import MAX_POINTS, Packed, pack
from tunix_rt.registry.run_values import Refresher
from tunix_rt.registry.streams import check_offset
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import NotFound, Reason, ResourceExhausted
from tunix_rt.v1 import run_pb2

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
        self._values = Refresher(run)

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
        await self._values.after_write(tx)
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
            steps, values = (await load_curves(tx, [self.run], metric)).get(self.run, (None, None))
            if steps is not None and values is not None and len(steps):
                made[metric] = summarise(steps, values)
        await tx.execute(
            "DELETE FROM metric_summary WHERE run = %(run)s AND metric = ANY(%(metrics)s::text[])",
            run=self.run,
            metrics=sorted(set(metrics) - made.keys()),
        )
        await tx.execute(_INSERT_SUMMARIES, run=self.run, **_summary_columns(made))


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
