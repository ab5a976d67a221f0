from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.probe import is_serving
from tunix_rt.rpc.server import Server
from tunix_rt.v1 import registry_service_pb2 as pb
from tunix_rt.v1 import registry_service_pb2_grpc as services
from tunix_rt.v1 import run_pb2

SERVICE = "tunix_rt.v1.RegistryService"


class Slow(services.RegistryServiceServicer):
    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.release = asyncio.Event()

    async def GetRun(self, request, context):  # type: ignore[no-untyped-def]
        self.started.set()
        await self.release.wait()
        return run_pb2.Run(name=request.name)


async def test_a_draining_server_finishes_open_calls_and_refuses_new_ones() -> None:
    servicer = Slow()
    server = Server("127.0.0.1:0", [SERVICE])
    services.add_RegistryServiceServicer_to_server(servicer, server.grpc_server)
    await server.start()
    address = f"127.0.0.1:{server.port}"
    assert await asyncio.to_thread(is_serving, address)
    async with open_channel(address) as channel:
        stub = services.RegistryServiceStub(channel)
        open_call = asyncio.ensure_future(stub.GetRun(pb.GetRunRequest(name="runs/a")))
        await servicer.started.wait()
        stopping = asyncio.create_task(server.stop(grace=10))
        async with grpc.aio.insecure_channel(address) as other:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await services.RegistryServiceStub(other).GetRun(pb.GetRunRequest(name="runs/b"), timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        servicer.release.set()
        assert (await open_call).name == "runs/a"
        await stopping
    assert not await asyncio.to_thread(is_serving, address)


async def test_reflection_lists_the_services() -> None:
    server = Server("127.0.0.1:0", [SERVICE])
    await server.start()
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = stub.ServerReflectionInfo()
        await call.write(request)
        await call.done_writing()
        (answer,) = [response async for response in call]
    listed = {service.name for service in answer.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= listed
    await server.stop(0)
