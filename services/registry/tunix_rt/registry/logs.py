"""The log lines of jobs: stored in the order in which they come, an attempt at a time."""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.registry import queue
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.paging import cut, resume_position, resume_token, within_bytes
from tunix_rt.registry.streams import check_offset
from tunix_rt.rpc.errors import InvalidArgument, NotFound, Reason, ResourceExhausted
from tunix_rt.rpc.pages import page_size
from tunix_rt.v1 import job_service_pb2, registry_service_pb2

MAX_LINES = 1000
MAX_BYTES = 1024 * 1024
MAX_CONTAINS = 1000
_CHUNK_ROWS = 1000


class LogWriter:
    """The one writer of the log of an attempt."""

    def __init__(self, job: str, attempt: int) -> None:
        self.job = queue.job_name(job)
        self.attempt = attempt

    async def open(self, tx: Transaction) -> int:
        """How many lines of the attempt are stored. Raises Aborted, reason LEASE_LOST."""
        await queue.hold(tx, self.job, self.attempt)
        await tx.execute(
            "INSERT INTO log_streams (job, attempt) VALUES (%(job)s, %(attempt)s) ON CONFLICT DO NOTHING",
            job=self.job,
            attempt=self.attempt,
        )
        return int((await self._lock(tx))["committed"])

    async def write(self, tx: Transaction, offset: int, lines: Sequence[str]) -> int:
        """Stores the lines that are new, and returns how many are stored in all."""
        size = sum(len(line.encode()) for line in lines)
        for what, value, limit in (("lines", len(lines), MAX_LINES), ("bytes", size, MAX_BYTES)):
            if value > limit:
                raise ResourceExhausted(
                    Reason.LIMIT_EXCEEDED,
                    f"The message has {value} {what}; at most {limit} fit. Send smaller batches.",
                    {"limit": limit, "value": value, "unit": what},
                )
        await queue.hold(tx, self.job, self.attempt)
        committed = int((await self._lock(tx))["committed"])
        check_offset(offset, committed, self.job)
        end = offset + len(lines)
        if end <= committed:
            return committed
        await tx.execute(
            "INSERT INTO log_chunks (job, attempt, first_offset, lines)"
            " VALUES (%(job)s, %(attempt)s, %(offset)s, %(lines)s)",
            job=self.job,
            attempt=self.attempt,
            offset=committed,
            lines=job_service_pb2.StreamLogsRequest(lines=lines[committed - offset :]).SerializeToString(),
        )
        await tx.execute(
            "UPDATE log_streams SET committed = %(end)s WHERE job = %(job)s AND attempt = %(attempt)s",
            end=end,
            job=self.job,
            attempt=self.attempt,
        )
        return end

    async def _lock(self, tx: Transaction) -> Row:
        row = await tx.one(
            "SELECT committed FROM log_streams WHERE job = %(job)s AND attempt = %(attempt)s FOR UPDATE",
            job=self.job,
            attempt=self.attempt,
        )
        assert row is not None
        return row


async def list_lines(
    tx: Transaction, request: registry_service_pb2.ListLogsRequest
) -> registry_service_pb2.ListLogsResponse:
    """The lines after the resume token, in the order in which they were stored."""
    if len(request.contains) > MAX_CONTAINS:
        text = f"has {len(request.contains)} characters; at most {MAX_CONTAINS} are searched for."
        raise InvalidArgument.of("contains", text)
    size = page_size(request.page_size, default=1000, maximum=10_000)
    attempt, offset = resume_position(request.resume_token, request.name)
    job = await tx.one("SELECT state FROM jobs WHERE name = %(name)s", name=request.name)
    if job is None:
        raise NotFound(request.name)
    response = registry_service_pb2.ListLogsResponse(state=job["state"])
    while True:
        rows = await _chunks_after(tx, request.name, attempt, offset)
        before = attempt, offset
        for row in rows:
            after = offset if row["attempt"] == attempt else 0
            lines = job_service_pb2.StreamLogsRequest.FromString(row["lines"]).lines
            for number, text in enumerate(lines, start=row["first_offset"]):
                if number < after or len(response.lines) >= size:
                    continue
                if request.contains in text:
                    response.lines.add(attempt=row["attempt"], offset=number, text=text)
                attempt, offset = row["attempt"], number + 1
        if response.lines or (attempt, offset) == before:
            break
    response.resume_token = resume_token(attempt, offset, request.name)
    return response


async def _chunks_after(tx: Transaction, job: str, attempt: int, offset: int) -> list[Row]:
    rows = await tx.all(
        within_bytes(
            "SELECT attempt, first_offset, lines FROM log_chunks WHERE job = %(name)s"
            " AND (attempt, first_offset) >= (%(attempt)s, coalesce((SELECT max(first_offset) FROM log_chunks"
            " WHERE job = %(name)s AND attempt = %(attempt)s AND first_offset <= %(offset)s), 0))"
            " ORDER BY attempt, first_offset LIMIT %(limit)s",
            order="attempt, first_offset",
            payload="lines",
        ),
        name=job,
        attempt=attempt,
        offset=offset,
        limit=_CHUNK_ROWS,
    )
    return cut(rows, len(rows))[0]
