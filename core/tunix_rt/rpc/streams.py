"""Streams of requests whose errors the client can read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from tunix_rt.rpc.errors import ApiError

_SECONDS = 1.0


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
