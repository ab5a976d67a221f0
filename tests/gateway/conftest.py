"""A gateway on free ports before one small backend that a test defines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from tunix_rt.gateway.server import Gateway
from tunix_rt.gateway.settings import Settings
from tunix_rt.rpc.server import Server
from tunix_rt.v1.job_service_pb2_grpc import JobServiceServicer, add_JobServiceServicer_to_server
from tunix_rt.v1.registry_service_pb2_grpc import (
    RegistryServiceServicer,
    add_RegistryServiceServicer_to_server,
)

AWAY = "127.0.0.1:1"  # nothing listens on port 1

StartBackend = Callable[..., Awaitable[Server]]
StartGateway = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def cleanup() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def start_backend(cleanup: AsyncExitStack) -> StartBackend:
    async def start(registry: RegistryServiceServicer, jobs: JobServiceServicer | None = None) -> Server:
        server = Server("127.0.0.1:0", ["tunix_rt.v1.RegistryService"])
        add_RegistryServiceServicer_to_server(registry, server.grpc_server)
        if jobs:
            add_JobServiceServicer_to_server(jobs, server.grpc_server)
        await server.start()
        cleanup.push_async_callback(server.stop, 0)
        return server

    return start


@pytest.fixture
def start_gateway(cleanup: AsyncExitStack) -> StartGateway:
    async def start(registry: str = AWAY, **settings: Any) -> Gateway:
        values = {"listen": "127.0.0.1:0", "web": "", "trainer": AWAY, "evaluator": AWAY, **settings}
        gateway = Gateway(Settings(registry=registry, **values))
        await gateway.start()
        cleanup.push_async_callback(gateway.stop, 0)
        return gateway

    return start


@pytest.fixture
def open_stub(cleanup: AsyncExitStack) -> Callable[..., Any]:
    def connect(stub: Any, port: int) -> Any:
        channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", 16 * 1024 * 1024)]
        )
        cleanup.push_async_callback(channel.close)
        return stub(channel)

    return connect
