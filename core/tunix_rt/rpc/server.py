"""A gRPC server with health, reflection, limits and graceful drain."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tunix_rt.rpc.channel import MAX_MESSAGE_BYTES
from tunix_rt.rpc.health import Dependency, Health
from tunix_rt.rpc.interceptors import ErrorInterceptor
from tunix_rt.rpc.telemetry import get_logger

DRAIN_SECONDS = 10.0


class Server:
    """A server that answers as NOT_SERVING until `start` and drains on `stop`.

    Servicers are added to `grpc_server` before `start`. `port` is the port in
    use, also where the address asked for port 0. `dependencies` decide with it about health.
    """

    def __init__(
        self, address: str, services: Sequence[str], *, dependencies: Sequence[Dependency] = ()
    ) -> None:
        self.grpc_server = grpc.aio.server(
            interceptors=[ErrorInterceptor()],
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        self._health = Health(services, dependencies)
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, self.grpc_server)
        reflection.enable_server_reflection(
            (*services, health.SERVICE_NAME, reflection.SERVICE_NAME), self.grpc_server
        )
        self._address = address
        self.port = 0

    async def start(self) -> None:
        """Binds the address and serves. Raises RuntimeError if the port is taken."""
        self.port = self.grpc_server.add_insecure_port(self._address)
        await self.grpc_server.start()
        await self._health.start()
        get_logger().info("serving", port=self.port)

    async def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Answers NOT_SERVING, takes no new calls, and gives open ones `grace` seconds."""
        await self._health.drain()
        await self.grpc_server.stop(grace)
        get_logger().info("stopped")


async def serve_until_signal(
    server: Server, *, on_stop: Callable[[], Awaitable[None]] | None = None, grace: float = DRAIN_SECONDS
) -> None:
    """Serves until SIGTERM or SIGINT, then runs `on_stop` and drains."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await server.start()
    await stopping.wait()
    if on_stop:
        await on_stop()
    await server.stop(grace)
