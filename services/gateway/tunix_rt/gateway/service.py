"""The `GatewayService`: checks the token and hands over to the functions that answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from tunix_rt.gateway.auth import TokenGate
from tunix_rt.gateway.backends import Backends, pass_on
from tunix_rt.gateway.compare_gather import compare_runs
from tunix_rt.gateway.system_status import read_system_status
from tunix_rt.gateway.watch import RunWatch
from tunix_rt.rpc import names
from tunix_rt.v1 import gateway_service_pb2 as pb2
from tunix_rt.v1.gateway_service_pb2_grpc import GatewayServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]


class GatewayService(GatewayServiceServicer):
    """Answers from the registry; keeps nothing between calls."""

    def __init__(self, backends: Backends, gate: TokenGate, *, stopping: asyncio.Event) -> None:
        self._backends = backends
        self._gate = gate
        self._stopping = stopping

    async def CompareRuns(self, request: pb2.CompareRunsRequest, context: Context) -> pb2.Comparison:
        """Compares runs and model versions."""
        self._gate.check_metadata(context.invocation_metadata())
        try:
            return await compare_runs(self._backends.registry, request)
        except grpc.aio.AioRpcError as error:
            await pass_on(error, context, backend="registry", method="CompareRuns")

    async def WatchRun(
        self, request: pb2.WatchRunRequest, context: Context
    ) -> AsyncIterator[pb2.WatchRunResponse]:
        """Streams a run until it has ended."""
        self._gate.check_metadata(context.invocation_metadata())
        name = names.require(request.name, names.RUN, "name")
        watch = RunWatch(
            self._backends.registry, name, resume_token=request.resume_token, stopping=self._stopping
        )
        try:
            async for event in watch.events():
                yield event
        except grpc.aio.AioRpcError as error:
            await pass_on(error, context, backend="registry", method="WatchRun")

    async def GetSystemStatus(self, _: pb2.GetSystemStatusRequest, context: Context) -> pb2.SystemStatus:
        """Says which services answer."""
        self._gate.check_metadata(context.invocation_metadata())
        return await read_system_status(self._backends)
