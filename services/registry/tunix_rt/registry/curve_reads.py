"""Reads curves from the database: the points of a metric that count, of many runs at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from tunix_rt.registry.curves import NEVER, Curve, Part, resolve
from tunix_rt.registry.database import Row, Transaction


async def load_curves(
    tx: Transaction, wanted: Sequence[str], metric: str, *, times: bool = False
) -> dict[str, Curve]:
    """The points of a metric that count, for each run that has any."""
    streams = await tx.all(
        "SELECT run, attempt, first_step FROM metric_streams WHERE run = ANY(%(runs)s::text[])"
        " AND first_step IS NOT NULL",
        runs=list(wanted),
    )
    # Joined by PostgreSQL: a curve that came in messages of few points has many chunks.
    columns = ("steps", "points", "times") if times else ("steps", "points")
    joined = ", ".join(f"string_agg({each}, ''::bytea ORDER BY batch_offset) AS {each}" for each in columns)
    rows = await tx.all(
        f"SELECT run, attempt, {joined} FROM metric_chunks WHERE run = ANY(%(runs)s::text[])"
        " AND metric = %(metric)s GROUP BY run, attempt ORDER BY run, attempt",
        runs=list(wanted),
        metric=metric,
    )
    made = {}
    for run, of_run in groupby(rows, lambda row: str(row["run"])):
        newer = {s["attempt"]: s["first_step"] for s in streams if s["run"] == run}
        curve = resolve([_part(row, newer) for row in of_run])
        if len(curve.steps):
            made[run] = curve
    return made


def _part(row: Row, first_steps: dict[int, int]) -> Part:
    newer = [step for attempt, step in first_steps.items() if attempt > row["attempt"]]
    return Part(
        np.frombuffer(row["steps"], "<i8"),
        np.frombuffer(row["points"], "<f8"),
        end_step=min(newer, default=NEVER),
        times=np.frombuffer(row["times"], "<i8") if "times" in row else None,
    )


async def count_points(tx: Transaction, runs: Sequence[str], metrics: Sequence[str]) -> int:
    """How many points count in the metrics of the runs."""
    row = await tx.one(
        "SELECT coalesce(sum(count), 0)::bigint AS count FROM metric_summary"
        " WHERE run = ANY(%(runs)s::text[]) AND metric = ANY(%(metrics)s::text[])",
        runs=list(runs),
        metrics=list(metrics),
    )
    assert row is not None
    return int(row["count"])


async def first_times(tx: Transaction, runs: Sequence[str]) -> dict[str, int]:
    """When the first point of each run was measured, in microseconds since 1970; only runs that know it."""
    rows = await tx.all(
        "SELECT c.run, c.times FROM unnest(%(runs)s::text[]) AS wanted (run) CROSS JOIN LATERAL"
        " (SELECT run, attempt, batch_offset FROM metric_chunks WHERE run = wanted.run"
        " ORDER BY attempt, batch_offset LIMIT 1) first"
        " JOIN metric_chunks c ON (c.run, c.attempt, c.batch_offset)"
        " = (first.run, first.attempt, first.batch_offset)",
        runs=list(runs),
    )
    found: dict[str, list[int]] = {}
    for row in rows:
        known = np.frombuffer(row["times"], "<i8")
        found.setdefault(row["run"], []).extend(known[known != 0].tolist())
    return {run: min(times) for run, times in found.items() if times}
