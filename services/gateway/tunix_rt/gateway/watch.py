"""Watches a run: lists that wait, merged into one stream that can be resumed on any replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration

from tunix_rt.rpc.errors import InvalidArgument, Reason, Unavailable, Violation
from tunix_rt.rpc.pages import decode_token, encode_token
from tunix_rt.v1 import gateway_service_pb2, job_pb2, registry_service_pb2, run_pb2

WAIT = timedelta(seconds=5)
TERMINAL = frozenset({job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED})
_CALL_SECONDS = 30.0
_POINTS, _LINES = "points", "lines"


class RunWatch:
    """One watcher of one run.

    `resume_token` is the last one seen, or empty. `stopping`, once set, ends
    the stream with Unavailable, so that the caller goes on at another replica.
    """

    def __init__(
        self,
        registry: Any,
        name: str,
        *,
        resume_token: str = "",
        stopping: asyncio.Event,
        wait: timedelta = WAIT,
    ) -> None:
        self._registry = registry
        self._name = name
        self._positions = _decode(resume_token, name)
        self._stopping = stopping
        self._wait = wait

    async def events(self) -> AsyncIterator[gateway_service_pb2.WatchRunResponse]:
        """The run first, then points, lines and changes of state; the last event is the run as it ended."""
        run = await self._get_run()
        yield self._event(run=run)
        state = run.status.state
        stop = asyncio.ensure_future(self._stopping.wait())
        reads = {kind: self._read(kind, state) for kind in (_POINTS, _LINES)}
        try:
            while reads:
                await asyncio.wait([stop, *reads.values()], return_when=asyncio.FIRST_COMPLETED)
                if stop.done():
                    raise _stopped()
                for kind in [kind for kind, read in reads.items() if read.done()]:
                    page = reads.pop(kind).result()
                    news = list(getattr(page, kind))
                    self._positions[kind] = page.resume_token
                    if news:
                        yield self._page_event(kind, news)
                    if news or page.state not in TERMINAL:
                        reads[kind] = self._read(kind, page.state)
                    if page.state == state:
                        continue
                    state = page.state
                    if state in TERMINAL:
                        self._hurry(reads)
                    else:
                        yield self._event(run=await self._get_run())
            yield self._event(run=await self._get_run())
        finally:
            for task in (stop, *reads.values()):
                task.cancel()

    def _hurry(self, reads: dict[str, asyncio.Future[Any]]) -> None:
        """Reads again without waiting: the run has ended, so only a tail can be left."""
        for kind, read in list(reads.items()):
            if not read.done():
                read.cancel()
                reads[kind] = self._read(kind, job_pb2.JOB_STATE_SUCCEEDED)

    def _read(self, kind: str, state: int) -> asyncio.Future[Any]:
        wait = Duration()
        wait.FromTimedelta(timedelta() if state in TERMINAL else self._wait)
        position = self._positions[kind]
        call: Any
        if kind == _POINTS:
            points = registry_service_pb2.ListMetricsRequest(run=self._name, resume_token=position, wait=wait)
            call = self._registry.ListMetrics(points, timeout=_CALL_SECONDS)
        else:
            lines = registry_service_pb2.ListLogsRequest(name=self._name, resume_token=position, wait=wait)
            call = self._registry.ListLogs(lines, timeout=_CALL_SECONDS)
        return asyncio.ensure_future(_result(call))

    async def _get_run(self) -> run_pb2.Run:
        run: run_pb2.Run = await self._registry.GetRun(
            registry_service_pb2.GetRunRequest(name=self._name), timeout=_CALL_SECONDS
        )
        return run

    def _page_event(self, kind: str, news: list[Any]) -> gateway_service_pb2.WatchRunResponse:
        if kind == _POINTS:
            return self._event(points=gateway_service_pb2.MetricPoints(points=news))
        return self._event(log_lines=gateway_service_pb2.LogLines(lines=news))

    def _event(self, **event: Any) -> gateway_service_pb2.WatchRunResponse:
        token = encode_token([self._positions[_POINTS], self._positions[_LINES]], ["watch", self._name])
        return gateway_service_pb2.WatchRunResponse(resume_token=token, **event)


async def _result(call: Any) -> Any:
    return await call


def _decode(resume_token: str, name: str) -> dict[str, str]:
    try:
        position = decode_token(resume_token, ["watch", name], 2) or ["", ""]
    except InvalidArgument as error:
        violation = Violation(
            "resume_token",
            f"is `{resume_token[:40]}`, which no watch of `{name}` returned. Watch again without a token.",
        )
        raise InvalidArgument([violation], Reason.INVALID_PAGE_TOKEN) from error
    return {_POINTS: str(position[0]), _LINES: str(position[1])}


def _stopped() -> Unavailable:
    return Unavailable(
        Reason.SERVICE_UNAVAILABLE,
        "The gateway shuts down. Watch again with the last resume_token.",
        {"service": "gateway"},
    )
