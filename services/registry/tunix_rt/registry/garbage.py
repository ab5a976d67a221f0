"""Removes what deleted runs leave, and stored bytes that nothing names."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from tunix_rt.blobs.blobs import Blob, Blobs
from tunix_rt.registry import deletion, retention, stored_files
from tunix_rt.registry.database import Database, Transaction
from tunix_rt.registry.retention import Policy
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, Reason, Violation
from tunix_rt.v1 import registry_service_pb2

DEFAULT_MIN_AGE = timedelta(days=7)
_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}")
_WITHOUT_DIGESTS = (
    *("migrations", "requests", "traces", "runs", "jobs", "item_scores", "log_chunks", "log_streams"),
    *("metric_chunks", "metric_streams", "metric_summary", "run_labels", "run_parameters", "run_values"),
)
_ROWS = (
    "DELETE FROM metric_chunks WHERE run = ANY(%(runs)s::text[])",
    "DELETE FROM metric_streams WHERE run = ANY(%(runs)s::text[])",
    "DELETE FROM metric_summary WHERE run = ANY(%(runs)s::text[])",
    "DELETE FROM log_chunks WHERE job = ANY(%(runs)s::text[])",
    "DELETE FROM log_streams WHERE job = ANY(%(runs)s::text[])",
    "DELETE FROM artifacts WHERE owner = ANY(%(runs)s::text[])",
    "DELETE FROM run_values v USING runs r WHERE r.name = ANY(%(runs)s::text[]) AND v.run = r.number",
    "DELETE FROM run_labels l USING runs r WHERE r.name = ANY(%(runs)s::text[]) AND l.run = r.number",
    "DELETE FROM run_parameters p USING runs r WHERE r.name = ANY(%(runs)s::text[]) AND p.run = r.number",
)


@dataclass(frozen=True)
class Garbage:
    """Runs whose rows can go, the number of their artifacts, and blobs that nothing else names."""

    runs: tuple[str, ...]
    artifact_count: int
    blobs: tuple[Blob, ...]

    def response(self) -> registry_service_pb2.CollectGarbageResponse:
        """What the caller is told."""
        return registry_service_pb2.CollectGarbageResponse(
            runs=self.runs,
            artifact_count=self.artifact_count,
            blob_count=len(self.blobs),
            size_bytes=sum(blob.size_bytes for blob in self.blobs),
        )


async def collect(
    database: Database, blobs: Blobs, request: registry_service_pb2.CollectGarbageRequest, *, now: datetime
) -> registry_service_pb2.CollectGarbageResponse:
    """Removes garbage, or says what is garbage.

    The record of a run stays, so that its name is never used again and evaluations go on to name it. Rows go
    first, bytes after them: what is cut short in between is finished by the next call.
    """
    before, policy = _ages(request, now)
    if not request.remove:
        return await _foretell(database, blobs, policy, before, now)
    async with database.transaction() as tx:
        await _begin(tx)
        expired = await retention.expire(tx, policy, now=now)
        runs = await _dead_runs(tx, before)
        artifacts = await _count_artifacts(tx, runs)
        await _remove_rows(tx, runs, now)
    async with database.transaction() as tx:
        await _begin(tx)
        found = await _find(tx, blobs, (), before)
        with stored_files.translated():
            await asyncio.to_thread(_delete, blobs, found.blobs)
    response = Garbage(tuple(runs), artifacts, found.blobs).response()
    expired.tell(response)
    return response


class _Undone(Exception):
    """Rolls a transaction back."""


async def _foretell(
    database: Database, blobs: Blobs, policy: Policy, before: datetime, now: datetime
) -> registry_service_pb2.CollectGarbageResponse:
    """What would be removed: it is done, looked at and undone, as far as it is rows."""
    response = registry_service_pb2.CollectGarbageResponse()
    with suppress(_Undone):
        async with database.transaction() as tx:
            expired = await retention.expire(tx, policy, now=now)
            response = (await _find(tx, blobs, await _dead_runs(tx, before), before)).response()
            expired.tell(response)
            raise _Undone
    return response


async def _begin(tx: Transaction) -> None:
    if not await deletion.begin(tx):
        raise FailedPrecondition(
            Reason.BACKUP_RUNNING, "A backup reads the stored files. Collect garbage when it has ended."
        )


def _delete(blobs: Blobs, unnamed: Sequence[Blob]) -> None:
    for blob in unnamed:
        blobs.delete(blob.sha256)


def _ages(request: registry_service_pb2.CollectGarbageRequest, now: datetime) -> tuple[datetime, Policy]:
    """The moment before which garbage is removed, and what is kept how long. Raises InvalidArgument."""
    found: list[Violation] = []

    def age(field: str) -> timedelta | None:
        if not request.HasField(field):  # type: ignore[arg-type]
            return None
        given = getattr(request, field)
        seconds = given.seconds + given.nanos / 1e9
        if not 0 <= seconds <= 10 * 366 * 86_400:
            found.append(Violation(field, f"is {seconds:g} s; it must be from 0 to ten years."))
            return None
        return timedelta(seconds=seconds)

    min_age, policy = age("min_age"), Policy(age("archived_age"), age("checkpoint_age"))
    if found:
        raise InvalidArgument(found)
    return now - (DEFAULT_MIN_AGE if min_age is None else min_age), policy


async def _dead_runs(tx: Transaction, before: datetime) -> list[str]:
    """The runs deleted before a moment that no open evaluation works on, locked."""
    rows = await tx.all(
        "SELECT r.name FROM runs r WHERE r.delete_time <= %(before)s AND r.remove_time IS NULL"
        " AND NOT EXISTS (SELECT FROM evaluations e JOIN jobs j USING (name)"
        " WHERE e.subject = r.name AND j.state IN (1, 2)) ORDER BY r.number FOR NO KEY UPDATE OF r",
        before=before,
    )
    return [row["name"] for row in rows]


async def _count_artifacts(tx: Transaction, runs: Sequence[str]) -> int:
    row = await tx.one(
        "SELECT count(*) AS count FROM artifacts WHERE owner = ANY(%(runs)s::text[])", runs=list(runs)
    )
    assert row is not None
    return int(row["count"])


async def _remove_rows(tx: Transaction, runs: Sequence[str], now: datetime) -> None:
    for statement in _ROWS:
        await tx.execute(statement, runs=list(runs))
    await tx.execute(
        "UPDATE runs SET remove_time = %(now)s, model_artifact = '' WHERE name = ANY(%(runs)s::text[])",
        now=now,
        runs=list(runs),
    )


async def _find(tx: Transaction, blobs: Blobs, runs: Sequence[str], before: datetime) -> Garbage:
    """The garbage if the rows of some runs are gone."""
    named = await named_digests(tx, runs)

    def unnamed() -> tuple[Blob, ...]:
        return tuple(blob for blob in blobs.list() if blob.store_time <= before and blob.sha256 not in named)

    with stored_files.translated():
        found = await asyncio.to_thread(unnamed)
    return Garbage(tuple(runs), await _count_artifacts(tx, runs), found)


async def named_digests(tx: Transaction, without: Sequence[str] = ()) -> set[str]:
    """Every SHA-256 in the texts and messages of the database, but in the artifacts of some runs.

    All tables are read but those that are known to name no bytes: a table that is new keeps its bytes.
    """
    columns = await tx.all(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND data_type IN ('bytea', 'text') AND table_name <> ALL(%(tables)s::text[])",
        tables=list(_WITHOUT_DIGESTS),
    )
    reads = [
        f'SELECT "{row["column_name"]}" AS value FROM "{row["table_name"]}"'
        + (" WHERE owner <> ALL(%(runs)s::text[])" if row["table_name"] == "artifacts" else "")
        for row in columns
    ]
    reads.append("SELECT spec AS value FROM jobs WHERE kind = 'evaluation'")
    named: set[str] = set()
    for read in reads:
        for row in await tx.all(read, runs=list(without)):
            value = row["value"] or b""
            found = _DIGEST.findall(value.encode() if isinstance(value, str) else value)
            named.update(digest.decode() for digest in found)
    return named
