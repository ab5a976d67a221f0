"""The only module that knows psycopg: pool, transactions, migrations."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
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
_BACKUP_LOCK = 7_303_014_423
_MIGRATION_NAME = re.compile(r"(\d{4})_\w+\.sql")
_AFTER = {5: run_index.fill_in}
"""What SQL alone cannot fill in, by the migration that it belongs to."""


class _PoolLog(logging.Handler):
    """Brings the warnings of the pool, such as a refused password, into the structured log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line for a record."""
        get_logger().warning("database", detail=record.getMessage())


logging.getLogger("psycopg.pool").addHandler(_PoolLog(logging.WARNING))


@dataclass(frozen=True)
class PoolUse:
    """The connections of a pool: open ones, unused ones of them, and the calls that wait for one."""

    size: int
    idle: int
    waiting: int


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

    async def backup_runs(self) -> bool:
        """Whether a backup reads now; none begins to until the end of the transaction if none does."""
        row = await self.one("SELECT pg_try_advisory_xact_lock(%(lock)s) AS free", lock=_BACKUP_LOCK)
        return not (row and row["free"])

    @asynccontextmanager
    async def copy_out(self, sql: str) -> AsyncIterator[CopyOut]:
        """What a `COPY … TO STDOUT` gives."""
        async with self._connection.cursor() as cursor, cursor.copy(sql.encode()) as copy:
            yield CopyOut(copy)

    async def copy_in(self, sql: str, parts: Iterable[bytes]) -> int:
        """Gives bytes to a `COPY … FROM STDIN`, and returns the number of rows."""
        async with self._connection.cursor() as cursor:
            async with cursor.copy(sql.encode()) as copy:
                for part in parts:
                    await copy.write(part)
            return cursor.rowcount

    async def migrate(self, only: Collection[int] | None = None) -> None:
        """Brings the schema up to date, or up to some migrations."""
        known = _migrations()
        await _migrate(self._connection, {n: sql for n, sql in known.items() if only is None or n in only})


@dataclass(frozen=True)
class CopyOut:
    """The bytes of a `COPY … TO STDOUT`, and after the last of them the number of its rows."""

    _copy: psycopg.AsyncCopy

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._copy:
            yield bytes(data)

    @property
    def rows(self) -> int:
        """How many rows there were."""
        return self._copy.cursor.rowcount


class Database:
    """A pool of connections that outlives restarts of PostgreSQL.

    Every method raises Unavailable, reason DATABASE_UNAVAILABLE, while the database is away.
    """

    def __init__(self, url: str, *, connect_seconds: int = 5) -> None:
        self.url = url
        self._connect_seconds = connect_seconds
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[DictRow]] | None = None
        self._checked: psycopg.AsyncConnection[Any] | None = None

    async def open(self, *, migrate: bool = True) -> None:
        """Connects and, unless told otherwise, brings the schema up to date."""
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
            if migrate:
                async with self._pool.connection() as connection:
                    await _migrate(connection, _migrations())

    async def close(self) -> None:
        """Closes all connections."""
        if self._checked:
            await self._checked.close()
        if self._pool:
            await self._pool.close()

    def pool_use(self) -> PoolUse:
        """How much of the pool is in use now."""
        found = self._pool.get_stats() if self._pool else {}
        return PoolUse(
            found.get("pool_size", 0), found.get("pool_available", 0), found.get("requests_waiting", 0)
        )

    async def check(self) -> None:
        """Asks the database something, on a connection of its own that no load keeps busy."""
        with _translated():
            try:
                async with asyncio.timeout(self._connect_seconds):
                    if self._checked is None:
                        self._checked = await psycopg.AsyncConnection.connect(self.url, autocommit=True)
                    await self._checked.execute("SELECT 1")
            except (psycopg.Error, TimeoutError) as error:
                if self._checked:
                    await self._checked.close()
                    self._checked = None
                raise psycopg.OperationalError(str(error)) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction that commits at the end of the block and rolls back at an exception."""
        with _translated():
            async with AsyncExitStack() as stack:
                yield Transaction(await self._begin(stack))

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Transaction]:
        """A transaction that reads the database as it is now, however long it takes; it is a backup's.

        No stored bytes are deleted meanwhile.
        """
        with _translated():
            async with await psycopg.AsyncConnection.connect(
                self.url, autocommit=True, row_factory=dict_row, connect_timeout=self._connect_seconds
            ) as connection:
                await connection.execute("SELECT pg_advisory_lock_shared(%s)", [_BACKUP_LOCK])
                await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
                await connection.set_read_only(True)
                async with connection.transaction():
                    yield Transaction(connection)
                # The end of the connection would free it too, but a moment later.
                await connection.execute("SELECT pg_advisory_unlock_shared(%s)", [_BACKUP_LOCK])

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


def known_migrations() -> frozenset[int]:
    """The numbers of the migrations that this version knows."""
    return frozenset(_migrations())


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
