"""Streams of requests that end in an error which the client can read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from tunix_rt.rpc.errors import ApiError

_SECONDS = 0.5


@asynccontextmanager
async def read_on(requests: AsyncIterator[Any]) -> AsyncIterator[None]:
    """Drops what the client still sends for a moment after an error, before the error ends the stream.

    A grpc.aio client that is writing when the stream ends may report `INTERNAL: Internal error from Core`
    in place of the status that was sent.
    """
    try:
        yield
    except ApiError:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS):
                async for _ in requests:
                    pass
        raise
