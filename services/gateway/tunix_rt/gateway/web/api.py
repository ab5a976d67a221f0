"""The JSON that the pages read, and the live stream of a run; the same functions as the pages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from tunix_rt.gateway.backends import Backends
from tunix_rt.gateway.system_status import read_system_status
from tunix_rt.gateway.watch import RunWatch
from tunix_rt.gateway.web import reads
from tunix_rt.gateway.web.board_query import board_request
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import ApiError, InvalidArgument
from tunix_rt.v1 import gateway_service_pb2

MAX_POINTS = 2000
_PROGRESS = ("state", "progress", "progressTotal", "attempt")


class Api:
    """The handlers under `/api/`."""

    def __init__(self, backends: Backends, *, stopping: asyncio.Event) -> None:
        self._backends = backends
        self._stopping = stopping

    async def curves(self, request: Request) -> Response:
        """`run` and `metric`, each once or more, and `max_points`."""
        query = request.query_params
        runs = [names.require(name, names.RUN, "run") for name in query.getlist("run")]
        points = _integer(query.get("max_points", "500"), "max_points")
        answer = await reads.read_curves(
            self._backends.registry,
            runs,
            metrics=query.getlist("metric"),
            max_points=max(2, min(points, MAX_POINTS)),
        )
        return _json(answer)

    async def comparison(self, request: Request) -> Response:
        """`subject` twice or more, `dataset`, `split`."""
        query = request.query_params
        comparison, _ = await reads.read_comparison(
            self._backends.registry,
            query.getlist("subject"),
            dataset=query.get("dataset", ""),
            split=query.get("split", ""),
        )
        return _json(comparison)

    async def leaderboard(self, request: Request) -> Response:
        """`dataset` or `task`, and the filters of the page."""
        wanted = board_request(request.query_params)
        return _json(await reads.read_board(self._backends.registry, wanted))

    async def run(self, request: Request) -> Response:
        """One run."""
        name = names.require(f"runs/{request.path_params['id']}", names.RUN, "name")
        return _json((await reads.read_run(self._backends.registry, name)).run)

    async def evaluation_items(self, request: Request) -> Response:
        """A page of the items of an evaluation; `page_token`."""
        name = names.require(f"evaluations/{request.path_params['id']}", names.EVALUATION, "name")
        token = request.query_params.get("page_token", "")
        _, items = await reads.read_evaluation(self._backends.registry, name, token)
        return _json(items)

    async def status(self, request: Request) -> Response:
        """The state of the services."""
        del request
        return _json(await read_system_status(self._backends))

    async def watch(self, request: Request) -> Response:
        """A run as it goes, as server-sent events; the id of each is the resume token."""
        name = names.require(f"runs/{request.path_params['id']}", names.RUN, "name")
        watch = RunWatch(
            self._backends.registry,
            name,
            resume_token=request.headers.get("last-event-id", ""),
            stopping=self._stopping,
        )
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_event_stream(watch), media_type="text/event-stream", headers=headers)


async def _event_stream(watch: RunWatch) -> AsyncIterator[str]:
    try:
        async for event in watch.events():
            kind, data = _event_data(event)
            yield f"event: {kind}\nid: {event.resume_token}\ndata: {json.dumps(data)}\n\n"
        yield "event: end\ndata: {}\n\n"
    except (ApiError, grpc.aio.AioRpcError):
        return  # the browser connects again with the last id


def _event_data(event: gateway_service_pb2.WatchRunResponse) -> tuple[str, Any]:
    """Points only say that there are new ones: the page reads the curves within its budget."""
    kind = event.WhichOneof("event")
    if kind == "points":
        return "points", {"step": event.points.points[-1].step}
    if kind == "log_lines":
        return "lines", [line.text for line in event.log_lines.lines]
    status = MessageToDict(event.run.status)
    return "run", {key: status.get(key, 0) for key in _PROGRESS}


def _json(message: Message) -> Response:
    return JSONResponse(MessageToDict(message), headers={"cache-control": "no-store"})


def _integer(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidArgument.of(field, f"is `{text[:40]}`; give a whole number.")
    return int(text)
