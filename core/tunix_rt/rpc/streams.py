"""Streams of requests whose errors the client can read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from tunix_rt.rpc.errors import ApiError

_SECONDS = 1.0

T = TypeVar("T")


@asynccontextmanager
async def read_on(requests: AsyncIterator[Any]) -> AsyncIterator[None]:
    """Drops what the client still sends, for a moment, before an error ends the stream."""
    try:
        yield
    except ApiError:
        await discard(requests)
        raise


async def discard(requests: AsyncIterator[Any]) -> None:
    """Drops what the client still sends until it has sent all, at most for a second.

    A grpc.aio client that is writing when its stream ends may report `INTERNAL: Internal error from Core`
    in place of the status that was sent.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_SECONDS):
            async for _ in requests:
                pass


@asynccontextmanager
async def read_ahead(requests: AsyncIterator[T], limit: int) -> AsyncIterator[AsyncIterator[list[T]]]:
    """Gives what has come so far, at most `limit` requests at once, while more are read.

    Drops what the client still sends, as `read_on`, before an error ends the stream.
    """
    waiting: asyncio.Queue[T | None] = asyncio.Queue(limit)

    async def read() -> None:
        try:
            async for request in requests:
                await waiting.put(request)
        except Exception:
            await waiting.put(None)
            raise
        await waiting.put(None)

    async def groups() -> AsyncIterator[list[T]]:
        while (first := await waiting.get()) is not None:
            group = [first]
            while len(group) < limit and not waiting.empty():
                if (request := waiting.get_nowait()) is None:
                    waiting.put_nowait(None)
                    break
                group.append(request)
            yield group
        await reader

    reader = asyncio.create_task(read())
    try:
        yield groups()
    except ApiError:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS):
                while not reader.done() and await waiting.get() is not None:
                    pass
        raise
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
