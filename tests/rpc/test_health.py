"""Health follows what a server depends on, by name, and liveness does not."""

from __future__ import annotations

import asyncio

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunix_rt.rpc import health
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.health import Dependency
from tunix_rt.rpc.server import Server

A, B = "tunix_rt.v1.RegistryService", "tunix_rt.v1.JobService"


class Store:
    """Something that can be away, or hang."""

    def __init__(self) -> None:
        self.away = False
        self.hangs = asyncio.Event()

    async def check(self) -> None:
        if self.hangs.is_set():
            await asyncio.Event().wait()
        if self.away:
            raise ConnectionError("nobody listens")


@pytest.fixture
async def serving(monkeypatch):
    """Starts a server that asks its dependencies often; gives the calls that tell its health."""
    monkeypatch.setattr(health, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.1)
    made = []

    async def start(*dependencies):
        server = Server("127.0.0.1:0", [A, B], dependencies=dependencies)
        await server.start()
        channel = open_channel(f"127.0.0.1:{server.port}")
        made.append((server, channel))
        stub = health_pb2_grpc.HealthStub(channel)

        async def status(name: str) -> str:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

        async def becomes(name: str, wanted: str) -> None:
            async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=5):
                if answer.status == health_pb2.HealthCheckResponse.ServingStatus.Value(wanted):
                    return

        return status, becomes

    yield start
    for server, channel in made:
        await channel.close()
        await server.stop(0)


async def test_all_services_stop_serving_while_a_dependency_is_away(serving):
    store = Store()
    status, becomes = await serving(Dependency("store", store.check))
    assert [await status(name) for name in ("", A, B, "store", "live")] == ["SERVING"] * 5
    store.away = True
    await becomes("", "NOT_SERVING")
    assert [await status(name) for name in (A, B, "store")] == ["NOT_SERVING"] * 3
    assert await status("live") == "SERVING"
    store.away = False
    await becomes(A, "SERVING")
    assert [await status(name) for name in ("", B, "store")] == ["SERVING"] * 3


async def test_only_the_services_that_need_a_dependency_stop_serving(serving):
    store = Store()
    status, becomes = await serving(Dependency("store", store.check, (B,)))
    store.away = True
    await becomes(B, "NOT_SERVING")
    assert [await status(name) for name in ("", A)] == ["SERVING"] * 2


async def test_a_dependency_that_does_not_answer_in_time_is_away(serving):
    store = Store()
    _, becomes = await serving(Dependency("store", store.check))
    store.hangs.set()
    await becomes("", "NOT_SERVING")


async def test_a_server_whose_dependency_is_away_at_the_start_lives_but_does_not_serve(serving):
    store = Store()
    store.away = True
    status, becomes = await serving(Dependency("store", store.check))
    assert [await status(name) for name in ("", A, "live")] == ["NOT_SERVING", "NOT_SERVING", "SERVING"]
    store.away = False
    await becomes("", "SERVING")
