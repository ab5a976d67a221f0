"""The registry's health follows its database and its object store."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunix_rt.rpc import health

NAMES = ("", "tunix_rt.v1.RegistryService", "tunix_rt.v1.JobService")


class Relay:
    """A TCP port in front of PostgreSQL's socket, which can be closed and opened again."""

    def __init__(self, url: str) -> None:
        self._socket = f"{parse_qs(urlsplit(url).query)['host'][0]}/.s.PGSQL.5432"
        self._database = urlsplit(url).path
        self._port = 0
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}{self._database}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(self._socket)
        self._writers += [writer, inner_writer]
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


@pytest.fixture
async def relay(make_database, cleanup):
    made = Relay(make_database())
    await made.open()
    cleanup.push_async_callback(made.close)
    return made


@pytest.fixture
async def stub(open_registry, relay, cleanup, monkeypatch):
    monkeypatch.setattr(health, "PAUSE_SECONDS", 0.05)
    registry = await open_registry(relay.url)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{registry.server.port}")
    cleanup.push_async_callback(channel.close)
    made = health_pb2_grpc.HealthStub(channel)
    made.blobs = registry.blobs
    return made


async def becomes(stub, name, wanted):
    async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=10):
        if answer.status == wanted:
            return


async def statuses(stub, *names):
    answers = [await stub.Check(health_pb2.HealthCheckRequest(service=name)) for name in names]
    return [answer.status for answer in answers]


SERVING, NOT_SERVING = 1, 2


async def test_the_registry_serves_again_after_an_outage_of_the_database(stub, relay):
    assert await statuses(stub, *NAMES) == [SERVING] * 3
    await relay.close()
    await becomes(stub, "", NOT_SERVING)
    assert await statuses(stub, *NAMES, "database", "blobs", "live") == [NOT_SERVING] * 4 + [SERVING] * 2
    await relay.open()
    await becomes(stub, "", SERVING)
    assert await statuses(stub, *NAMES, "database") == [SERVING] * 4


async def test_the_registry_serves_again_after_an_outage_of_the_object_store(stub):
    away = stub.blobs.with_name("away")
    stub.blobs.rename(away)
    await becomes(stub, "", NOT_SERVING)
    assert await statuses(stub, *NAMES, "database", "blobs", "live") == [
        *[NOT_SERVING] * 3,
        *[SERVING, NOT_SERVING, SERVING],
    ]
    away.rename(stub.blobs)
    await becomes(stub, "", SERVING)
