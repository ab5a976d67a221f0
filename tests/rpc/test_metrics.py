"""What a server counts is on its page of metrics."""

from __future__ import annotations

import asyncio
import urllib.request

import grpc
import pytest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from tunix_rt.rpc.errors import NotFound
from tunix_rt.rpc.health import Dependency
from tunix_rt.rpc.server import Server
from tunix_rt.v1 import registry_service_pb2 as pb
from tunix_rt.v1 import registry_service_pb2_grpc as services
from tunix_rt.v1 import run_pb2

SERVICE = "tunix_rt.v1.RegistryService"
GET_RUN = {"grpc_type": "unary", "grpc_service": SERVICE, "grpc_method": "GetRun"}
READ_BLOB = {"grpc_type": "server_stream", "grpc_service": SERVICE, "grpc_method": "ReadBlob"}


class Registry(services.RegistryServiceServicer):
    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def GetRun(self, request, context):  # type: ignore[no-untyped-def]
        if request.name == "runs/missing":
            raise NotFound(request.name)
        if request.name == "runs/bug":
            raise KeyError("a bug")
        return run_pb2.Run(name=request.name)

    async def ReadBlob(self, request, context):  # type: ignore[no-untyped-def]
        yield pb.ReadBlobResponse(data=b"a")
        await self.release.wait()


class Page:
    def __init__(self, port: int) -> None:
        self._port = port

    async def value(self, name: str, **labels: str) -> float | None:
        """The value of a sample; None if it is not on the page."""
        text = (await asyncio.to_thread(self._read)).decode()
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        found = [each.value for each in samples if each.name == name and each.labels == labels]
        return found[0] if found else None

    def _read(self) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as page:
            return page.read()


@pytest.fixture
async def serving():
    servicer = Registry()

    async def well() -> None:
        return None

    async def away() -> None:
        raise ConnectionError("away")

    dependencies = [Dependency("database", well), Dependency("blobs", away)]
    server = Server("127.0.0.1:0", [SERVICE], dependencies=dependencies, metrics_address="127.0.0.1:0")
    services.add_RegistryServiceServicer_to_server(servicer, server.grpc_server)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield server, servicer, services.RegistryServiceStub(channel), Page(server.metrics.port)
    servicer.release.set()
    await server.stop(5)


async def test_calls_are_counted_by_code_and_timed(serving):
    _, _, stub, page = serving
    for name in ("runs/a", "runs/b", "runs/missing", "runs/bug"):
        call = stub.GetRun(pb.GetRunRequest(name=name))
        await asyncio.gather(call, return_exceptions=True)
    handled = [
        await page.value("grpc_server_handled_total", **GET_RUN, grpc_code=code)
        for code in ("OK", "NOT_FOUND", "INTERNAL", "CANCELLED")
    ]
    assert handled == [2, 1, 1, None]
    assert await page.value("grpc_server_handling_seconds_count", **GET_RUN) == 4
    assert await page.value("grpc_server_open", **GET_RUN) == 0


async def test_open_streams_are_seen_until_they_end(serving):
    _, servicer, stub, page = serving
    call = stub.ReadBlob(pb.ReadBlobRequest())
    await call.read()
    assert await page.value("grpc_server_open", **READ_BLOB) == 1
    servicer.release.set()
    assert await call.read() is grpc.aio.EOF
    assert await page.value("grpc_server_open", **READ_BLOB) == 0
    assert await page.value("grpc_server_handled_total", **READ_BLOB, grpc_code="OK") == 1


async def test_dependencies_are_up_or_not(serving):
    _, _, _, page = serving
    assert await page.value("tunix_rt_dependency_up", dependency="database") == 1
    assert await page.value("tunix_rt_dependency_up", dependency="blobs") == 0


async def test_what_cannot_be_measured_is_left_out_and_the_rest_is_told(serving):
    server, _, _, page = serving

    async def fails():
        raise ConnectionError("away")

    async def measures():
        return [GaugeMetricFamily("tunix_rt_jobs", "Jobs.", value=3)]

    server.metrics.on_scrape(fails)
    server.metrics.on_scrape(measures)
    assert await page.value("tunix_rt_jobs") == 3


async def test_methods_that_callers_make_up_add_no_series():
    from tunix_rt.rpc.call_metrics import method_labels

    assert method_labels("/tunix_rt.v1.RegistryService/Nothing") == ("unknown", "unknown", "unknown")
    assert method_labels("/made.up/Name") == ("unknown", "unknown", "unknown")


@pytest.mark.parametrize("address", ["9464", "127.0.0.1:http"])
async def test_an_address_of_another_form_is_refused(address):
    server = Server("127.0.0.1:0", [SERVICE], metrics_address=address)
    with pytest.raises(ValueError, match="host:port"):
        await server.start()
