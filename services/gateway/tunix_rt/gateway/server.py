"""Puts the gateway together: one gRPC server, the forwarder behind it, the web page beside it."""

from __future__ import annotations

import asyncio
import functools

from tunix_rt.gateway.auth import TokenGate
from tunix_rt.gateway.backends import FORWARDED, Backends, check_backend
from tunix_rt.gateway.forward import Forwarder
from tunix_rt.gateway.service import GatewayService
from tunix_rt.gateway.settings import Settings
from tunix_rt.gateway.web.app import build_app
from tunix_rt.gateway.web.serve import WebServer
from tunix_rt.rpc.health import Dependency
from tunix_rt.rpc.server import DRAIN_SECONDS, Server
from tunix_rt.v1.gateway_service_pb2_grpc import add_GatewayServiceServicer_to_server

SERVICE = "tunix_rt.v1.GatewayService"


class Gateway:
    """The gateway of some settings; `port` and `web_port` are the ports in use after `start`.

    An empty `web` setting serves no page, and `web_port` stays 0. The health of a forwarded service is
    that of its backend; the gateway's own says nothing about them.
    """

    def __init__(self, settings: Settings) -> None:
        self._stopping = asyncio.Event()
        self._backends = Backends(
            registry=settings.registry, trainer=settings.trainer, evaluator=settings.evaluator
        )
        gate = TokenGate(settings.token_digests)
        dependencies = [
            Dependency(backend.name, functools.partial(check_backend, backend), (service,))
            for service, backend in self._backends.forwarded().items()
        ]
        self._server = Server(
            settings.listen,
            [SERVICE, *FORWARDED],
            dependencies=dependencies,
            metrics_address=settings.metrics,
        )
        service = GatewayService(self._backends, gate, stopping=self._stopping)
        add_GatewayServiceServicer_to_server(service, self._server.grpc_server)
        forwarder = Forwarder(self._backends.forwarded(), gate)
        self._server.grpc_server.add_generic_rpc_handlers((forwarder,))
        self._web: WebServer | None = None
        if settings.web:
            app = build_app(self._backends, gate, stopping=self._stopping, address=settings.web)
            self._web = WebServer(app, settings.web)

    @property
    def port(self) -> int:
        """The port of the gRPC server."""
        return self._server.port

    @property
    def web_port(self) -> int:
        """The port of the web page; 0 without one."""
        return self._web.port if self._web else 0

    async def start(self) -> None:
        """Serves the API and the page. Raises if an address is taken."""
        await self._server.start()
        if self._web:
            await self._web.start()

    async def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Ends live streams, so that their callers go on elsewhere, then drains."""
        self._stopping.set()
        if self._web:
            await self._web.stop()
        await self._server.stop(grace)
        await self._backends.close()
