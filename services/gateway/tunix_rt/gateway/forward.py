"""Forwards calls by service name, as bytes: no message is parsed on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import structlog

from tunix_rt.gateway.auth import TokenGate
from tunix_rt.gateway.backends import Backend, pass_on, unknown_method
from tunix_rt.rpc.interceptors import REQUEST_ID_KEY
from tunix_rt.rpc.telemetry import get_logger

Context = grpc.aio.ServicerContext[Any, Any]
_HOP = ("authorization", "user-agent", REQUEST_ID_KEY)


class Forwarder(grpc.GenericRpcHandler):
    """Takes every call that no servicer before it took.

    One stream-to-stream handler on bytes carries unary and streaming calls
    alike: a unary call is a stream of one message each way. The deadline, the
    metadata, the status with its details and a cancellation go through; the
    request id is made here if the caller sent none. Add it to the server last.
    """

    def __init__(self, backends: Mapping[str, Backend], gate: TokenGate) -> None:
        self._backends = backends
        self._gate = gate

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a method, also of one that does not exist."""
        method = str(handler_call_details.method)
        backend = self._backends.get(method.removeprefix("/").rpartition("/")[0])

        async def call(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            self._gate.check_metadata(context.invocation_metadata())
            if backend is None:
                raise unknown_method(method)
            async for response in _forward(requests, context, backend, method):
                yield response

        handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(call)
        return handler


async def _forward(
    requests: AsyncIterator[bytes], context: Context, backend: Backend, method: str
) -> AsyncIterator[bytes]:
    start: Any = backend.channel.stream_stream(method)
    outgoing = start(requests, timeout=context.time_remaining(), metadata=_metadata(context))
    try:
        first = True
        async for response in outgoing:
            if first:
                await context.send_initial_metadata(tuple(await outgoing.initial_metadata()))
                first = False
            yield response
        context.set_trailing_metadata(tuple(await outgoing.trailing_metadata()))
    except grpc.aio.AioRpcError as error:
        get_logger().info("forwarded", method=method, backend=backend.name, code=error.code().name)
        await pass_on(error, context, backend=backend.name, method=method)
    finally:
        outgoing.cancel()  # the caller went away; no effect on a call that has ended


def _metadata(context: Context) -> tuple[tuple[str, Any], ...]:
    kept = [
        (key, value)
        for key, value in context.invocation_metadata() or ()
        if key not in _HOP and not key.startswith((":", "grpc-"))
    ]
    request_id = structlog.contextvars.get_contextvars()["request_id"]
    return (*kept, (REQUEST_ID_KEY, request_id))
