"""Runs the web page in the event loop of the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from tunix_rt.gateway.settings import split_address
from tunix_rt.rpc.telemetry import get_logger

GRACE_SECONDS = 3


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the gateway."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """Serves an application on `host:port`; `port` is the port in use."""

    def __init__(self, app: Starlette, address: str) -> None:
        self._address = address
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Binds the address and serves. Raises OSError if the port is taken."""
        host, port = split_address(self._address)
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        get_logger().info("serving web page", port=self.port)

    async def stop(self) -> None:
        """Takes no new requests and gives open ones a few seconds."""
        self._server.should_exit = True
        if self._task:
            await self._task
