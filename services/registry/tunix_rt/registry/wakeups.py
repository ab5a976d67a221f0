"""Wakes calls that wait for something to change, in this process and in the others on one database."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from tunix_rt.registry.database import Database
from tunix_rt.rpc.errors import Unavailable
from tunix_rt.rpc.telemetry import get_logger

T = TypeVar("T")
CHANNEL = "tunix_rt"
LOOK_AGAIN_SECONDS = 2.0
"""A waiter looks again after this time even if no notice came: a notice may be lost in an outage."""
_RECONNECT_SECONDS = 0.25
_GATHER_SECONDS = 0.05


class Wakeups:
    """Topics, such as `runs/a`, on which calls wait; a topic is announced after its transaction.

    Notices of many transactions travel together, so that commits do not queue for PostgreSQL's
    notification lock.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._pending: set[str] = set()
        self._announced = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._released = False

    def start(self) -> None:
        """Starts to send and to receive notices."""
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]

    def release(self) -> None:
        """Lets all waiting calls answer now, since the server is about to stop."""
        self._released = True
        self._wake_all()

    async def stop(self) -> None:
        """Stops to send and to receive notices."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    def announce(self, *topics: str) -> None:
        """Says that something has changed; call it after the commit."""
        for topic in topics:
            self._wake(topic)
        self._pending.update(topics)
        self._announced.set()

    @contextmanager
    def subscribe(self, topic: str) -> Iterator[asyncio.Event]:
        """An event that is set at each change of a topic; clear it, then look, then wait."""
        event = asyncio.Event()
        self._waiting[topic].add(event)
        try:
            yield event
        finally:
            self._waiting[topic].discard(event)
            if not self._waiting[topic]:
                del self._waiting[topic]

    async def until(
        self, topic: str, seconds: float, look: Callable[[], Awaitable[tuple[T, float | None]]]
    ) -> T:
        """What `look` finds, repeated at each change of a topic until it says so or the time is over.

        `look` returns what it found and None to end, or the most seconds until it wants to look again.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        with self.subscribe(topic) as event:
            while True:
                event.clear()
                found, again = await look()
                left = deadline - loop.time()
                if again is None or left <= 0 or self._released:
                    return found
                with suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), min(left, again, LOOK_AGAIN_SECONDS))

    def _wake(self, topic: str) -> None:
        for event in self._waiting.get(topic, ()):
            event.set()

    def _wake_all(self) -> None:
        for topic in list(self._waiting):
            self._wake(topic)

    async def _send(self) -> None:
        while True:
            await self._announced.wait()
            self._announced.clear()
            topics, self._pending = self._pending, set()
            try:
                async with self._database.transaction() as tx:
                    await tx.execute(
                        # Notices may be lost, so this commit need not wait for the disk.
                        "SELECT set_config('synchronous_commit', 'off', true) UNION ALL"
                        " SELECT pg_notify(%(channel)s, topic)::text FROM unnest(%(topics)s::text[]) topic",
                        channel=CHANNEL,
                        topics=sorted(topics),
                    )
            except Unavailable as error:
                get_logger().warning("notices not sent", error=error.message)
            await asyncio.sleep(_GATHER_SECONDS)

    async def _receive(self) -> None:
        while True:
            try:
                async with self._database.listen(CHANNEL) as topics:
                    self._wake_all()
                    async for topic in topics:
                        self._wake(topic)
            except Unavailable as error:
                get_logger().warning("notices not received", error=error.message)
            await asyncio.sleep(_RECONNECT_SECONDS)
