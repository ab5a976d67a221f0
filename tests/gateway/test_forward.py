from __future__ import annotations

import asyncio
import hashlib

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tunix_rt.rpc.errors import InvalidArgument, Reason, ResourceExhausted, Violation
from tunix_rt.rpc.status import reason_of, status_of, violations_of
from tunix_rt.v1 import dataset_pb2, run_pb2
from tunix_rt.v1 import registry_service_pb2 as pb2
from tunix_rt.v1.job_service_pb2 import ClaimJobRequest
from tunix_rt.v1.job_service_pb2_grpc import JobServiceStub
from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceServicer, RegistryServiceStub
from tunix_rt.v1.trainer_service_pb2 import CreateRunRequest
from tunix_rt.v1.trainer_service_pb2_grpc import TrainerServiceStub

DEADLINE = 10.0


class Backend(RegistryServiceServicer):
    """Answers a few methods in ways that show what arrived."""

    def __init__(self):
        self.metadata = {}
        self.time_remaining = None
        self.sent = 0
        self.cancelled = asyncio.Event()
        self.half_closed = asyncio.Event()

    async def GetRun(self, request, context):
        self.metadata = dict(context.invocation_metadata())
        self.time_remaining = context.time_remaining()
        await context.send_initial_metadata((("x-first", "early"),))
        context.set_trailing_metadata((("x-last", "late"),))
        return run_pb2.Run(name=request.name)

    async def ListRuns(self, request, context):
        raise InvalidArgument([Violation("page_size", "is -1; bad."), Violation("dataset", "is bad.")])

    async def GetDataset(self, request, context):
        return await self._wait_for_ever()

    async def ListTraces(self, request, context):
        return pb2.ListTracesResponse(traces=[dataset_pb2.Trace(prompt="x" * 8_000_000)])

    async def AppendTraces(self, requests, context):
        yield pb2.AppendTracesResponse(committed=0)
        stored = 0
        async for request in requests:
            stored += len(request.traces)
            yield pb2.AppendTracesResponse(committed=stored)
        self.half_closed.set()

    async def UploadBlob(self, requests, context):
        yield pb2.UploadBlobResponse(committed=0)
        async for _ in requests:
            raise ResourceExhausted(Reason.LIMIT_EXCEEDED, "Too large.", {"limit": 1})

    async def ReadBlob(self, request, context):
        yield pb2.ReadBlobResponse(data=b"first")
        if not request.offset:
            await self._wait_for_ever()
        try:
            while True:
                self.sent += 1
                yield pb2.ReadBlobResponse(data=bytes(2**20))
        finally:
            self.cancelled.set()

    async def _wait_for_ever(self):
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
async def gateway(backend, start_backend, start_gateway):
    server = await start_backend(backend)
    return await start_gateway(f"127.0.0.1:{server.port}")


@pytest.fixture
def registry(gateway, open_stub):
    return open_stub(RegistryServiceStub, gateway.port)


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_unary_call_carries_messages_metadata_and_request_id(backend, registry):
    call = registry.GetRun(
        pb2.GetRunRequest(name="runs/a"),
        timeout=DEADLINE,
        metadata=(("x-request-id", "abc"), ("x-bytes-bin", b"\x00\xff"), ("authorization", "Bearer secret")),
    )
    assert (await call).name == "runs/a"
    assert backend.metadata["x-request-id"] == "abc"
    assert backend.metadata["x-bytes-bin"] == b"\x00\xff"
    assert "authorization" not in backend.metadata
    assert dict(await call.initial_metadata())["x-first"] == "early"
    assert dict(await call.trailing_metadata())["x-last"] == "late"


async def test_request_id_is_made_for_a_caller_without_one(backend, registry):
    await registry.GetRun(pb2.GetRunRequest(name="runs/a"), timeout=DEADLINE)
    assert len(backend.metadata["x-request-id"]) == 36


async def test_deadline_goes_through(backend, registry):
    await registry.GetRun(pb2.GetRunRequest(name="runs/a"), timeout=DEADLINE)
    assert DEADLINE / 2 < backend.time_remaining < DEADLINE * 1.1
    error = await failure(registry.GetDataset(pb2.GetDatasetRequest(), timeout=0.3))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(backend.cancelled.wait(), DEADLINE)


async def test_error_arrives_with_its_details(registry):
    status = status_of(await failure(registry.ListRuns(pb2.ListRunsRequest(), timeout=DEADLINE)))
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert reason_of(status) == "INVALID_FIELDS"
    assert violations_of(status) == [("page_size", "is -1; bad."), ("dataset", "is bad.")]


async def test_error_in_a_stream_arrives_after_its_messages(registry):
    call = registry.UploadBlob(timeout=DEADLINE)
    assert (await call.read()).committed == 0
    await call.write(pb2.UploadBlobRequest(data=b"x"))
    status = status_of(await failure(call.read()))
    assert reason_of(status) == "LIMIT_EXCEEDED"


async def test_streams_run_both_ways_at_once(backend, registry):
    call = registry.AppendTraces(timeout=DEADLINE)
    assert (await call.read()).committed == 0
    for expected in (1, 2, 3):
        await call.write(pb2.AppendTracesRequest(traces=[dataset_pb2.Trace(prompt="p")]))
        assert (await call.read()).committed == expected
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    await asyncio.wait_for(backend.half_closed.wait(), DEADLINE)


async def test_cancelled_caller_cancels_the_backend(backend, registry):
    call = registry.ReadBlob(pb2.ReadBlobRequest(sha256="0"), timeout=DEADLINE)
    assert (await call.read()).data == b"first"
    call.cancel()
    await asyncio.wait_for(backend.cancelled.wait(), DEADLINE)


async def test_slow_reader_holds_the_backend_back_and_its_cancellation_ends_it(backend, registry):
    call = registry.ReadBlob(pb2.ReadBlobRequest(sha256="0", offset=1), timeout=DEADLINE)
    for _ in range(3):
        await call.read()
    before = -1
    while before != backend.sent:  # the windows of both connections fill up
        before = backend.sent
        await registry.GetRun(pb2.GetRunRequest(name="runs/a"), timeout=DEADLINE)
    assert backend.sent < 50
    call.cancel()
    await asyncio.wait_for(backend.cancelled.wait(), DEADLINE)


async def test_large_message_passes(registry):
    answer = await registry.ListTraces(pb2.ListTracesRequest(), timeout=DEADLINE)
    assert len(answer.traces[0].prompt) == 8_000_000


async def test_backend_that_is_away_is_named(gateway, open_stub):
    trainer = open_stub(TrainerServiceStub, gateway.port)
    error = await failure(trainer.CreateRun(CreateRunRequest(), timeout=DEADLINE))
    status = status_of(error)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    status.details[0].Unpack(info)
    assert (info.reason, info.metadata["service"]) == ("SERVICE_UNAVAILABLE", "trainer")
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.seconds == 1


async def test_backend_that_went_away_is_named_on_an_open_channel(start_backend, start_gateway, open_stub):
    first = await start_backend(Backend())
    registry = open_stub(RegistryServiceStub, (await start_gateway(f"127.0.0.1:{first.port}")).port)
    await registry.GetRun(pb2.GetRunRequest(name="runs/a"), timeout=DEADLINE)
    await first.stop(0)
    error = await failure(registry.GetRun(pb2.GetRunRequest(name="runs/a"), timeout=DEADLINE))
    assert reason_of(status_of(error)) == "SERVICE_UNAVAILABLE"


async def test_job_service_is_not_forwarded(gateway, open_stub):
    error = await failure(
        open_stub(JobServiceStub, gateway.port).ClaimJob(ClaimJobRequest(), timeout=DEADLINE)
    )
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert reason_of(status_of(error)) == "UNKNOWN_METHOD"


async def test_method_that_the_backend_lacks_is_named(gateway, cleanup):
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}")
    cleanup.push_async_callback(channel.close)
    error = await failure(channel.unary_unary("/tunix_rt.v1.RegistryService/GetRuns")(b"", timeout=DEADLINE))
    status = status_of(error)
    assert reason_of(status) == "UNKNOWN_METHOD"
    assert "/tunix_rt.v1.RegistryService/GetRuns" in status.message


async def test_reflection_lists_the_forwarded_services(gateway, open_stub):
    stub = open_stub(reflection_pb2_grpc.ServerReflectionStub, gateway.port)
    call = stub.ServerReflectionInfo(timeout=DEADLINE)
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    answer = await call.read()
    names = {service.name for service in answer.list_services_response.service}
    assert {f"tunix_rt.v1.{name}Service" for name in ("Gateway", "Registry", "Trainer", "Evaluator")} <= names
    assert "tunix_rt.v1.JobService" not in names
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Bearer wrong"),), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Basic right"),), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Bearer right"),), None),
    ],
)
async def test_token_is_asked_for(start_backend, start_gateway, open_stub, metadata, code):
    server = await start_backend(Backend())
    digests = ",".join(hashlib.sha256(token).hexdigest() for token in (b"other", b"right"))
    gateway = await start_gateway(f"127.0.0.1:{server.port}", tokens=digests)
    call = open_stub(RegistryServiceStub, gateway.port).GetRun(
        pb2.GetRunRequest(name="runs/a"), timeout=DEADLINE, metadata=metadata
    )
    if code is None:
        assert (await call).name == "runs/a"
    else:
        error = await failure(call)
        assert error.code() is code
        assert reason_of(status_of(error)) == "UNAUTHENTICATED"
