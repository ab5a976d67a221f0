from __future__ import annotations

import asyncio

import grpc
import pytest

from tunix_rt.rpc.errors import NotFound
from tunix_rt.rpc.status import reason_of, status_of, violations_of
from tunix_rt.v1 import job_pb2, run_pb2
from tunix_rt.v1 import registry_service_pb2 as pb2
from tunix_rt.v1.gateway_service_pb2 import WatchRunRequest
from tunix_rt.v1.gateway_service_pb2_grpc import GatewayServiceStub
from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceServicer

QUEUED, RUNNING, SUCCEEDED = job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_SUCCEEDED
NAME = "runs/a"
DEADLINE = 4.0  # shorter than a waiting list, so no test passes by the end of a wait


class Registry(RegistryServiceServicer):
    """One run in memory; its lists wait until something is appended, not until the state changes."""

    def __init__(self, state=RUNNING):
        self.state = state
        self.points, self.lines = [], []
        self.changed = asyncio.Condition()

    async def set(self, *, state=None, points=(), lines=()):
        async with self.changed:
            self.state = state or self.state
            self.points += points
            self.lines += lines
            self.changed.notify_all()

    async def GetRun(self, request, context):
        if request.name != NAME:
            raise NotFound(request.name)
        return run_pb2.Run(name=NAME, status=job_pb2.JobStatus(state=self.state))

    async def ListMetrics(self, request, context):
        news, token = await self._after(self.points, request)
        points = [run_pb2.MetricPoint(metric="train/loss", step=step) for step in news]
        return pb2.ListMetricsResponse(points=points, resume_token=token, state=self.state)

    async def ListLogs(self, request, context):
        news, token = await self._after(self.lines, request)
        lines = [run_pb2.LogLine(text=text) for text in news]
        return pb2.ListLogsResponse(lines=lines, resume_token=token, state=self.state)

    async def _after(self, rows, request):
        start = int(request.resume_token or 0)
        async with self.changed:
            if len(rows) == start and request.wait.seconds:
                try:
                    async with asyncio.timeout(request.wait.seconds):
                        await self.changed.wait_for(lambda: len(rows) > start)
                except TimeoutError:
                    pass
        end = min(len(rows), start + 2)  # pages of two
        return rows[start:end], str(end)


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
async def backend_address(registry, start_backend):
    return f"127.0.0.1:{(await start_backend(registry)).port}"


@pytest.fixture
async def gateway(backend_address, start_gateway):
    return await start_gateway(backend_address)


@pytest.fixture
def stub(gateway, open_stub):
    return open_stub(GatewayServiceStub, gateway.port)


def summary(event):
    kind = event.WhichOneof("event")
    if kind == "points":
        return [point.step for point in event.points.points]
    if kind == "log_lines":
        return [line.text for line in event.log_lines.lines]
    return job_pb2.JobState.Name(event.run.status.state)


async def drain(call):
    events = []
    while (event := await call.read()) is not grpc.aio.EOF:
        events.append(summary(event))
    return events


def flat(summaries, kind):
    return [
        entry for rows in summaries if isinstance(rows, list) for entry in rows if isinstance(entry, kind)
    ]


async def test_run_comes_first_and_its_end_last_after_the_whole_tail(registry, stub):
    call = stub.WatchRun(WatchRunRequest(name=NAME), timeout=DEADLINE)
    assert summary(await call.read()) == "JOB_STATE_RUNNING"
    await registry.set(points=[1])
    assert summary(await call.read()) == [1]
    await registry.set(lines=["one"])
    assert summary(await call.read()) == ["one"]
    await registry.set(state=SUCCEEDED, points=[2, 3, 4, 5, 6], lines=["two", "three", "four"])
    rest = await drain(call)
    assert rest[-1] == "JOB_STATE_SUCCEEDED"
    assert rest.count("JOB_STATE_SUCCEEDED") == 1
    assert flat(rest, int) == [2, 3, 4, 5, 6]
    assert flat(rest, str) == ["two", "three", "four"]


async def test_change_of_state_is_sent(registry, stub):
    registry.state = QUEUED
    call = stub.WatchRun(WatchRunRequest(name=NAME), timeout=DEADLINE)
    assert summary(await call.read()) == "JOB_STATE_QUEUED"
    await registry.set(state=RUNNING, points=[1])
    assert [summary(await call.read()), summary(await call.read())] == [[1], "JOB_STATE_RUNNING"]
    call.cancel()


async def test_end_does_not_wait_for_the_list_without_news(registry, stub):
    call = stub.WatchRun(WatchRunRequest(name=NAME), timeout=DEADLINE)
    await call.read()
    await registry.set(state=SUCCEEDED, points=[1])  # no line comes to wake the list of lines
    assert await drain(call) == [[1], "JOB_STATE_SUCCEEDED"]


async def test_ended_run_is_told_whole(registry, stub):
    registry.state, registry.points, registry.lines = SUCCEEDED, [1, 2, 3], ["one"]
    told = await drain(stub.WatchRun(WatchRunRequest(name=NAME), timeout=DEADLINE))
    assert (told[0], told[-1]) == ("JOB_STATE_SUCCEEDED", "JOB_STATE_SUCCEEDED")
    assert (flat(told, int), flat(told, str)) == ([1, 2, 3], ["one"])


async def test_another_replica_goes_on_without_gap_or_double(
    registry, stub, backend_address, start_gateway, open_stub
):
    registry.points, registry.lines = [1, 2, 3], ["one"]
    call = stub.WatchRun(WatchRunRequest(name=NAME), timeout=DEADLINE)
    seen, token = [], ""
    while flat(seen, int) != [1, 2] or flat(seen, str) != ["one"]:
        event = await call.read()
        if 3 in flat([summary(event)], int):
            break
        seen.append(summary(event))
        token = event.resume_token
    call.cancel()
    await registry.set(state=SUCCEEDED, points=[4], lines=["two"])
    replica = open_stub(GatewayServiceStub, (await start_gateway(backend_address)).port)
    rest = await drain(replica.WatchRun(WatchRunRequest(name=NAME, resume_token=token), timeout=DEADLINE))
    assert flat(seen, int) + flat(rest, int) == [1, 2, 3, 4]
    assert flat(seen, str) + flat(rest, str) == ["one", "two"]


@pytest.mark.parametrize("token", ["nonsense", "WzFd"])
async def test_foreign_token_is_an_error_of_its_field(stub, token):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.WatchRun(WatchRunRequest(name=NAME, resume_token=token), timeout=DEADLINE).read()
    assert [field for field, _ in violations_of(status_of(caught.value))] == ["resume_token"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("runs/missing", "RESOURCE_NOT_FOUND"), ("../etc/passwd", "INVALID_FIELDS"), ("", "INVALID_FIELDS")],
)
async def test_bad_name_is_a_typed_error(stub, name, reason):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.WatchRun(WatchRunRequest(name=name), timeout=DEADLINE).read()
    assert reason_of(status_of(caught.value)) == reason


async def test_gateway_that_stops_sends_watchers_elsewhere(gateway, stub):
    call = stub.WatchRun(WatchRunRequest(name=NAME), timeout=DEADLINE)
    await call.read()
    stopping = asyncio.create_task(gateway.stop())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert reason_of(status_of(caught.value)) == "SERVICE_UNAVAILABLE"
    await asyncio.wait_for(stopping, DEADLINE)
