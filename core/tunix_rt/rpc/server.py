"""A gRPC server with health, reflection, limits and graceful drain."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tunix_rt.rpc.call_metrics import CallMetrics
from tunix_rt.rpc.channel import MAX_MESSAGE_BYTES
from tunix_rt.rpc.health import Dependency, Health
from tunix_rt.rpc.interceptors import ErrorInterceptor
from tunix_rt.rpc.metrics import Metrics
from tunix_rt.rpc.telemetry import get_logger

DRAIN_SECONDS = 10.0


class Server:
    """A server that answers as NOT_SERVING until `start` and drains on `stop`.

    Servicers are added to `grpc_server` before `start`. `port` is the port in
    use, also where the address asked for port 0. `dependencies` decide with it about health.
    `metrics` are served at `metrics_address`, if there is one.
    """

    def __init__(
        self,
        address: str,
        services: Sequence[str],
        *,
        dependencies: Sequence[Dependency] = (),
        metrics_address: str = "",
    ) -> None:
        self.metrics = Metrics()
        self._metrics_address = metrics_address
        self.grpc_server = grpc.aio.server(
            interceptors=[CallMetrics(self.metrics), ErrorInterceptor()],
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
        """Binds the addresses and serves. Raises RuntimeError if a port is taken."""
        self.metrics.serve(self._metrics_address)
        self.port = self.grpc_server.add_insecure_port(self._address)
        await self.grpc_server.start()
        await self._health.start()
        self.metrics.on_scrape(self._health.measure)
        get_logger().info("serving", port=self.port)

    async def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Answers NOT_SERVING, takes no new calls, and gives open ones `grace` seconds."""
        await self._health.drain()
        await self.grpc_server.stop(grace)
        await self.metrics.close()
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
