from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2

from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Reason,
    Unavailable,
    Violation,
)
from tunix_rt.rpc.server import Server
from tunix_rt.rpc.status import reason_of, status_of, to_status, violations_of
from tunix_rt.v1 import registry_service_pb2 as pb
from tunix_rt.v1 import registry_service_pb2_grpc as services
from tunix_rt.v1 import run_pb2

SERVICE = "tunix_rt.v1.RegistryService"


class Failing(services.RegistryServiceServicer):
    async def GetRun(self, request, context):  # type: ignore[no-untyped-def]
        if request.name == "bug":
            raise ZeroDivisionError
        if request.name == "gone":
            raise NotFound("runs/gone")
        return run_pb2.Run(name=request.name)

    async def ListRuns(self, request, context):  # type: ignore[no-untyped-def]
        text = "is `x`; it must be another text that is as long as most of them are."
        raise InvalidArgument([Violation(f"items[{n}].name", text) for n in range(request.page_size)])

    async def ReadBlob(self, request, context):  # type: ignore[no-untyped-def]
        yield pb.ReadBlobResponse(data=b"first")
        raise FailedPrecondition(Reason.BLOB_MISSING, "second is missing", {"resource": "x"})


@pytest.fixture
async def stub() -> AsyncIterator[services.RegistryServiceAsyncStub]:
    server = Server("127.0.0.1:0", [SERVICE])
    services.add_RegistryServiceServicer_to_server(Failing(), server.grpc_server)
    await server.start()
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        yield services.RegistryServiceStub(channel)
    await server.stop(0)


@pytest.mark.parametrize(("count", "last"), [(30, "items[29].name"), (1000, "…")])
async def test_an_error_with_many_bad_fields_reaches_a_client_with_default_limits(
    count: int, last: str
) -> None:
    server = Server("127.0.0.1:0", [SERVICE])
    services.add_RegistryServiceServicer_to_server(Failing(), server.grpc_server)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await services.RegistryServiceStub(channel).ListRuns(pb.ListRunsRequest(page_size=count))
    await server.stop(0)
    violations = violations_of(status_of(caught.value))
    assert (violations[0][0], violations[-1][0]) == ("items[0].name", last)
    shown = len(violations) - (last == "…")
    assert violations[-1][1].startswith(f"and {count - shown} more") == (last == "…")


async def test_a_call_that_succeeds_returns_its_response(stub) -> None:
    assert (await stub.GetRun(pb.GetRunRequest(name="runs/a"))).name == "runs/a"


async def test_an_api_error_arrives_with_code_reason_and_resource(stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetRun(pb.GetRunRequest(name="gone"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    status = status_of(caught.value)
    assert reason_of(status) == "RESOURCE_NOT_FOUND"
    info = error_details_pb2.ResourceInfo()
    assert status.details[1].Unpack(info)
    assert info.resource_name == "runs/gone"


async def test_a_bug_is_internal_and_tells_nothing_of_the_code(stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetRun(pb.GetRunRequest(name="bug"))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "ZeroDivision" not in (caught.value.details() or "")


async def test_an_error_in_the_middle_of_a_stream_arrives_after_what_was_sent(stub) -> None:
    received = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for response in stub.ReadBlob(pb.ReadBlobRequest()):
            received.append(response.data)
    assert received == [b"first"]
    assert reason_of(status_of(caught.value)) == "BLOB_MISSING"


def test_all_bad_fields_are_named_in_one_error() -> None:
    error = InvalidArgument([Violation("spec.steps", "is 0."), Violation("spec.seed", "is x.")])
    assert violations_of(to_status(error)) == [("spec.steps", "is 0."), ("spec.seed", "is x.")]
    assert error.message == "spec.steps: is 0.; spec.seed: is x."


def test_unavailable_says_when_to_retry() -> None:
    status = to_status(Unavailable(Reason.SERVICE_UNAVAILABLE, "away"))
    retry = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.seconds == 1
