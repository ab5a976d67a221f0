"""Pages by key, bounded in rows and in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tunix_rt.registry.database import Row, Transaction
from tunix_rt.rpc.errors import InvalidArgument, Reason, Violation
from tunix_rt.rpc.pages import decode_token, encode_token, page_size

PAGE_BYTES = 4 * 1024 * 1024
MAX_WAIT_SECONDS = 30.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Page:
    """The rows of a page, and the token of the next one; empty on the last."""

    rows: list[Row]
    next_page_token: str


async def newest_first(
    tx: Transaction,
    table: str,
    request: Any,
    *,
    columns: str,
    payload: str,
    where: str = "true",
    **filters: object,
) -> Page:
    """A page of a table, newest first, from the `page_size` and `page_token` of a list request.

    `columns` include `name` and `create_time`; the page ends early where the `payload` column fills it.
    Each filter is a column and the text, number or list of texts that it must have; an empty one is off.
    """
    size = page_size(request.page_size)
    position = decode_token(request.page_token, [table, *filters.values()], 2)
    conditions = [where, *(_condition(column, value) for column, value in filters.items() if value)]
    if position:
        conditions.append("(create_time, name) < (%(after_time)s, %(after_name)s)")
    time, name = position or (0, "")
    order = "create_time DESC, name DESC"
    found = await tx.all(
        within_bytes(
            f"SELECT {columns} FROM {table} WHERE {' AND '.join(conditions)}"
            f" ORDER BY {order} LIMIT %(limit)s",
            order,
            payload,
        ),
        after_time=_EPOCH + timedelta(microseconds=int(time)),
        after_name=name,
        limit=size + 1,
        **filters,
    )
    rows, more = cut(found, size)
    if not more:
        return Page(rows, "")
    moment = (rows[-1]["create_time"] - _EPOCH) // timedelta(microseconds=1)
    return Page(rows, encode_token([moment, rows[-1]["name"]], [table, *filters.values()]))


def _condition(column: str, value: object) -> str:
    return f"{column} = ANY(%({column})s::text[])" if isinstance(value, list) else f"{column} = %({column})s"


def within_bytes(select: str, order: str, payload: str) -> str:
    """Wraps a limited SELECT so that it stops at 4 MiB of a payload column, but not before one row.

    Adds the column `available`: the rows of the SELECT, so that the caller knows whether some are left out.
    """
    return (
        f"SELECT * FROM (SELECT t.*, count(*) OVER () AS available,"
        f" sum(octet_length({payload})) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING)"
        f" - octet_length({payload}) AS bytes_before FROM ({select}) t) u"
        f" WHERE bytes_before < {PAGE_BYTES} ORDER BY {order}"
    )


def cut(rows: Sequence[Row], size: int) -> tuple[list[Row], bool]:
    """At most `size` of the rows of a `within_bytes` SELECT, and whether more are there."""
    kept = list(rows[:size])
    return kept, bool(rows) and int(rows[0]["available"]) > len(kept)


def resume_position(token: str, resource: str) -> tuple[int, int]:
    """The attempt and offset in a resume token of a resource; the beginning for the empty token."""
    try:
        position = decode_token(token, [resource], 2) or [0, 0]
        attempt, offset = (value if isinstance(value, int) else -1 for value in position)
        if not (0 <= attempt < 2**31 and 0 <= offset < 2**62):
            raise InvalidArgument.of("resume_token", "is out of range.")
    except InvalidArgument as error:
        text = f"is `{token[:40]}`, which this list did not return for `{resource}`. Begin without a token."
        raise InvalidArgument([Violation("resume_token", text)], Reason.INVALID_PAGE_TOKEN) from error
    return attempt, offset


def resume_token(attempt: int, offset: int, resource: str) -> str:
    """The token that says: go on at this offset of this attempt."""
    return encode_token([attempt, offset], [resource])


def wait_seconds(request: Any) -> float:
    """The `wait` of a request in seconds. Raises InvalidArgument outside `[0, 30]`."""
    seconds: float = request.wait.seconds + request.wait.nanos / 1e9
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise InvalidArgument.of("wait", f"is {seconds:g} s; it must be from 0 to {MAX_WAIT_SECONDS:g} s.")
    return seconds
