"""Stores the metrics of an attempt, packed, with the summaries in the same transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from tunix_rt.registry import queue
from tunix_rt.registry.curve_reads import load_curves
from tunix_rt.registry.curves import Summary, extend, is_rising, summarise
from tunix_rt.registry.database import Database, Row, Transaction
from tunix_rt.registry.metric_batches import Batch, batches
from tunix_rt.registry.points import Packed
from tunix_rt.registry.run_values import Refresher
from tunix_rt.registry.streams import check_offset
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import NotFound, Unavailable
from tunix_rt.v1 import job_service_pb2

_SUMMARY = tuple(Summary.__dataclass_fields__)

# Few arrays: each costs psycopg as much as the rest of a row.
_SUMMARIES = f"""
INSERT INTO metric_summary (run, metric, {", ".join(_SUMMARY)})
SELECT %(run)s, metric,
    f[3 * i - 2], b[4 * i - 3], f[3 * i - 1], b[4 * i - 2], f[3 * i], b[4 * i - 1], b[4 * i]
FROM (SELECT %(summary_values)s::float8[] AS f, %(summary_steps)s::bigint[] AS b) AS columns,
    unnest(%(summary_metrics)s::text[]) WITH ORDINALITY AS m (metric, i) {{held}}
ON CONFLICT (run, metric) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _SUMMARY)}
"""
# Stores nothing unless the attempt holds its lease and the stream is where its writer left it: a writer that
# knows the summaries needs this one statement, which is a transaction of its own.
_STORE = f"""
WITH held AS MATERIALIZED (
    SELECT FROM jobs j JOIN metric_streams s ON s.run = j.name AND s.attempt = j.attempt
    WHERE j.name = %(run)s AND j.attempt = %(attempt)s AND j.state = 2 AND s.committed = %(offset)s
        AND s.first_step IS NOT DISTINCT FROM %(known_first_step)s::bigint
    FOR SHARE OF j FOR UPDATE OF s
), chunks AS (
    INSERT INTO metric_chunks (run, attempt, batch_offset, metric, steps, points, times, offsets)
    SELECT %(run)s, %(attempt)s, %(offset)s, c.* FROM held, unnest(%(metrics)s::text[], %(steps)b::bytea[],
        %(values)b::bytea[], %(times)b::bytea[], %(offsets)b::bytea[]) AS c
), summaries AS ({_SUMMARIES.format(held=", held")})
UPDATE metric_streams SET committed = %(end)s, first_step = %(first_step)s FROM held
WHERE run = %(run)s AND attempt = %(attempt)s
"""


class MetricWriter:
    """The one writer of the metrics of an attempt; keeps the summaries between messages."""

    def __init__(self, run: str, attempt: int) -> None:
        self.run = names.require(run, names.RUN, "name")
        self.attempt = attempt
        self._committed = -1
        self._first_step: int | None = None
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

    async def write(
        self, database: Database, requests: Iterable[job_service_pb2.StreamMetricsRequest]
    ) -> AsyncIterator[int]:
        """Stores the points that are new, and yields for each message how many are stored in all.

        Raises OutOfRange, reason STREAM_GAP, and Aborted, reason LEASE_LOST.
        """
        for batch in batches(requests):
            before = batch.offset
            if not await self._store_at_once(database, batch):
                async with database.transaction() as tx:
                    before = await self._store_new(tx, batch)
            for end in batch.ends:
                yield max(before, end)

    async def _store_at_once(self, database: Database, batch: Batch) -> bool:
        """Stores a batch by one statement, if the writer knows all that it takes and nobody else wrote."""
        if self._committed != batch.offset or self._changes_older_attempts(batch) or self._values.due:
            return False
        packed = list(batch.points.by_metric())
        if any(each.metric not in self._summaries for each in packed):
            return False
        extended, unordered = self._extended(packed)
        if unordered:
            return False
        try:
            stored = await database.execute(_STORE, **self._parameters(batch, packed, extended))
        except Unavailable:
            return False  # of a connection that had died in the pool, or after a commit: look what is stored
        if stored:
            self._remember(batch, extended)
        return bool(stored)

    async def _store_new(self, tx: Transaction, batch: Batch) -> int:
        """Stores what is new of a batch, and returns how many points were stored before."""
        stream = await self._lock(tx)
        committed: int = stream["committed"]
        check_offset(batch.offset, committed, self.run)
        if batch.ends[-1] <= committed:
            return committed
        batch = Batch(committed, batch.points.after(committed - batch.offset), batch.ends)
        if self._committed != committed:
            self._summaries = {}
        self._first_step = stream["first_step"]
        packed = list(batch.points.by_metric())
        if self._changes_older_attempts(batch):
            await self._store(tx, batch, packed, {})
            await self._summarise_again(tx, None)
            await self._values.after_write(tx)
            return committed
        if missing := [each.metric for each in packed if each.metric not in self._summaries]:
            self._summaries |= await _load_summaries(tx, self.run, missing)
        extended, unordered = self._extended(packed)
        await self._store(tx, batch, packed, extended)
        if unordered:
            await self._summarise_again(tx, unordered)
        await self._values.after_write(tx)
        return committed

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

    def _changes_older_attempts(self, batch: Batch) -> bool:
        """Whether points of older attempts no longer count after this batch."""
        return self.attempt > 1 and self._first_step_with(batch) != self._first_step

    def _first_step_with(self, batch: Batch) -> int:
        step = int(batch.points.steps.min())
        return step if self._first_step is None else min(self._first_step, step)

    def _extended(self, packed: Sequence[Packed]) -> tuple[dict[str, Summary], list[str]]:
        """The summaries of metrics whose steps go on rising, and the other metrics."""
        extended: dict[str, Summary] = {}
        unordered: list[str] = []
        for each in packed:
            before = self._summaries.get(each.metric)
            if not is_rising(each.steps) or (before and each.steps[0] <= before.last_step):
                unordered.append(each.metric)
            elif before:
                extended[each.metric] = extend(before, each.steps, each.values)
            else:
                extended[each.metric] = summarise(each.steps, each.values)
        return extended, unordered

    async def _store(
        self, tx: Transaction, batch: Batch, packed: Sequence[Packed], summaries: dict[str, Summary]
    ) -> None:
        await tx.execute(_STORE, **self._parameters(batch, packed, summaries))
        self._remember(batch, summaries)

    def _parameters(
        self, batch: Batch, packed: Sequence[Packed], summaries: dict[str, Summary]
    ) -> dict[str, object]:
        return {
            "run": self.run,
            "attempt": self.attempt,
            "offset": batch.offset,
            "end": batch.ends[-1],
            "known_first_step": self._first_step,
            "first_step": self._first_step_with(batch),
            "metrics": [each.metric for each in packed],
            "steps": [each.steps.tobytes() for each in packed],
            "values": [each.values.tobytes() for each in packed],
            "times": [each.times.tobytes() for each in packed],
            "offsets": [each.offsets.tobytes() for each in packed],
            **_summary_columns(summaries),
        }

    def _remember(self, batch: Batch, summaries: dict[str, Summary]) -> None:
        self._first_step = self._first_step_with(batch)
        self._committed = batch.ends[-1]
        self._summaries |= summaries

    async def _summarise_again(self, tx: Transaction, metrics: list[str] | None) -> None:
        """Makes the summaries of some or all metrics from the stored points."""
        self._summaries = {}
        if metrics is None:
            rows = await tx.all("SELECT DISTINCT metric FROM metric_chunks WHERE run = %(run)s", run=self.run)
            metrics = [row["metric"] for row in rows]
        made: dict[str, Summary] = {}
        for metric in sorted(metrics):
            if (curve := (await load_curves(tx, [self.run], metric)).get(self.run)) is not None:
                made[metric] = summarise(curve.steps, curve.values)
        await tx.execute(
            "DELETE FROM metric_summary WHERE run = %(run)s AND metric = ANY(%(metrics)s::text[])",
            run=self.run,
            metrics=sorted(set(metrics) - made.keys()),
        )
        await tx.execute(_SUMMARIES.format(held=""), run=self.run, **_summary_columns(made))


async def _load_summaries(tx: Transaction, run: str, metrics: Sequence[str]) -> dict[str, Summary]:
    rows = await tx.all(
        "SELECT * FROM metric_summary WHERE run = %(run)s AND metric = ANY(%(metrics)s::text[])",
        run=run,
        metrics=list(metrics),
    )
    return {row["metric"]: Summary(**{name: row[name] for name in _SUMMARY}) for row in rows}


def _summary_columns(summaries: dict[str, Summary]) -> dict[str, Sequence[object]]:
    ordered = [summaries[metric] for metric in sorted(summaries)]
    return {
        "summary_metrics": sorted(summaries),
        "summary_values": [value for s in ordered for value in (s.last, s.min, s.max)],
        "summary_steps": [
            number for s in ordered for number in (s.last_step, s.min_step, s.max_step, s.count)
        ],
    }
