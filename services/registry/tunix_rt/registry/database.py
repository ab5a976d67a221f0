"""The only module that knows psycopg: pool, transactions, migrations."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from tunix_rt.registry import run_index
from tunix_rt.rpc.errors import Reason, Unavailable
from tunix_rt.rpc.telemetry import get_logger

Row = dict[str, Any]
POOL_SIZE = 10
_RECONNECT_SECONDS = 4.0
_MIGRATION_LOCK = 7_303_014_421
_MIGRATION_NAME = re.compile(r"(\d{4})_\w+\.sql")
_AFTER = {5: run_index.fill_in}
"""What SQL alone cannot fill in, by the migration that it belongs to."""


class _PoolLog(logging.Handler):
    """Brings the warnings of the pool, such as a refused password, into the structured log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line for a record."""
        get_logger().warning("database", detail=record.getMessage())


logging.getLogger("psycopg.pool").addHandler(_PoolLog(logging.WARNING))


class Transaction:
    """An open transaction; statements take `%(name)s` parameters and return rows as dicts."""

    def __init__(self, connection: psycopg.AsyncConnection[DictRow]) -> None:
        self._connection = connection

    async def all(self, sql: str, /, **params: object) -> list[Row]:
        """All rows of a statement."""
        async with self._connection.cursor(binary=True) as cursor:
            await cursor.execute(sql.encode(), params)
            return await cursor.fetchall()

    async def one(self, sql: str, /, **params: object) -> Row | None:
        """The first row of a statement, or None."""
        async with self._connection.cursor(binary=True) as cursor:
            await cursor.execute(sql.encode(), params)
            return await cursor.fetchone()

    async def execute(self, sql: str, /, **params: object) -> int:
        """Runs a statement and returns the number of rows that it changed."""
        async with self._connection.cursor(binary=True) as cursor:
            await cursor.execute(sql.encode(), params)
            return cursor.rowcount


class Database:
    """A pool of connections that outlives restarts of PostgreSQL.

    Every method raises Unavailable, reason DATABASE_UNAVAILABLE, while the database is away.
    """

    def __init__(self, url: str, *, connect_seconds: int = 5) -> None:
        self.url = url
        self._connect_seconds = connect_seconds
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[DictRow]] | None = None

    async def open(self) -> None:
        """Connects and brings the schema up to date."""
        self._pool = AsyncConnectionPool(
            self.url,
            connection_class=psycopg.AsyncConnection[DictRow],
            kwargs={
                "row_factory": dict_row,
                "autocommit": True,
                "connect_timeout": self._connect_seconds,
            },
            min_size=1,
            max_size=POOL_SIZE,
            timeout=self._connect_seconds,
            reconnect_timeout=_RECONNECT_SECONDS,
            open=False,
        )
        with _translated():
            await self._pool.open(wait=True, timeout=self._connect_seconds)
            async with self._pool.connection() as connection:
                await _migrate(connection, _migrations())

    async def close(self) -> None:
        """Closes all connections."""
        if self._pool:
            await self._pool.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction that commits at the end of the block and rolls back at an exception."""
        with _translated():
            async with AsyncExitStack() as stack:
                yield Transaction(await self._begin(stack))

    async def execute(self, sql: str, /, **params: object) -> int:
        """Runs one statement, a transaction of its own, and returns the number of rows that it changed.

        Where this raises Unavailable the statement may have been committed.
        """
        if self._pool is None:
            raise RuntimeError("the database is not open")
        with _translated():
            async with self._pool.connection() as connection:
                return await Transaction(connection).execute(sql, **params)

    async def _begin(self, stack: AsyncExitStack) -> psycopg.AsyncConnection[DictRow]:
        """A connection on which BEGIN has worked; those that died in the pool are replaced on the way."""
        if self._pool is None:
            raise RuntimeError("the database is not open")
        for _ in range(POOL_SIZE):
            async with AsyncExitStack() as trial:
                connection = await trial.enter_async_context(self._pool.connection())
                with suppress(psycopg.OperationalError):
                    await trial.enter_async_context(connection.transaction())
                    stack.push_async_exit(trial.pop_all())
                    return connection
        raise psycopg.OperationalError("no connection of the pool is alive")

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[AsyncIterator[str]]:
        """The payloads that are notified on a channel, on a connection of its own."""
        with _translated():
            async with await psycopg.AsyncConnection.connect(
                self.url, autocommit=True, connect_timeout=self._connect_seconds
            ) as connection:
                await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
                yield (notice.payload async for notice in connection.notifies())


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise Unavailable(
            Reason.DATABASE_UNAVAILABLE,
            "The database does not answer. If the call was cut at its end, it may have been stored. Send it"
            " again as it was, with the same `request_id` if it has one; nothing is stored twice then.",
        ) from error


def _migrations() -> Mapping[int, str]:
    found = {}
    for entry in (files("tunix_rt.registry") / "migrations").iterdir():
        match = _MIGRATION_NAME.fullmatch(entry.name)
        if match:
            found[int(match[1])] = entry.read_text()
    return dict(sorted(found.items()))


async def _migrate(connection: psycopg.AsyncConnection[DictRow], migrations: Mapping[int, str]) -> None:
    """Applies what is missing, one process at a time. Raises RuntimeError if the schema is newer."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_MIGRATION_LOCK])
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations"
            " (number integer PRIMARY KEY, apply_time timestamptz NOT NULL DEFAULT now())"
        )
        cursor = await connection.execute("SELECT number FROM migrations")
        applied = {row["number"] for row in await cursor.fetchall()}
        if newer := applied - migrations.keys():
            raise RuntimeError(
                f"the database has migration {max(newer)}, which this version does not know; use a newer one"
            )
        for number, sql in migrations.items():
            if number not in applied:
                await connection.execute(sql.encode())
                if number in _AFTER:
                    await _AFTER[number](Transaction(connection))
                await connection.execute("INSERT INTO migrations (number) VALUES (%s)", [number])
