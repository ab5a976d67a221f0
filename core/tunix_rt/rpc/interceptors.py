"""The one place where errors become statuses and calls become log lines."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.message import Message

from tunix_rt.rpc.errors import ApiError, Internal, InvalidArgument, Reason
from tunix_rt.rpc.status import DETAILS_KEY, to_status
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.rpc.unknown_fields import unknown_fields

REQUEST_ID_KEY = "x-request-id"
QUIET = ("/grpc.health.v1.", "/grpc.reflection.")

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
    Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Translates errors, binds the request id to the logs and logs each call."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Wraps the handler of a call, of whichever of the four kinds."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method.startswith(QUIET):
            return handler
        return rewrapped(
            handler,
            unary=lambda behaviour: _wrap_unary(behaviour, method),
            stream=lambda behaviour: _wrap_stream(behaviour, method),
        )


def rewrapped(handler: Handler, *, unary: Callable[[Any], Any], stream: Callable[[Any], Any]) -> Handler:
    """A handler of the same kind around the behaviour of another; `stream` wraps those that yield."""
    if handler.response_streaming:
        behaviour = stream(handler.stream_stream if handler.request_streaming else handler.unary_stream)
        make: Any = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
    else:
        behaviour = unary(handler.stream_unary if handler.request_streaming else handler.unary_unary)
        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
    made: Handler = make(behaviour, handler.request_deserializer, handler.response_serializer)
    return made


def _wrap_unary(behaviour: Any, method: str) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        started = time.monotonic()
        _bind(context)
        try:
            _refuse_unknown(request, method)
            response = await behaviour(request, context)
        except Exception as error:
            await _abort(context, error, method, started)
            raise
        _log(method, started)
        return response

    return call


def _wrap_stream(behaviour: Any, method: str) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        started = time.monotonic()
        _bind(context)
        try:
            async for response in behaviour(request, context):
                yield response
        except Exception as error:
            await _abort(context, error, method, started)
            raise
        _log(method, started)

    return call


def _refuse_unknown(request: Any, method: str) -> None:
    """Raises InvalidArgument if a request that creates has fields that this server does not know."""
    if isinstance(request, Message) and method.rpartition("/")[2].startswith("Create"):
        found = list(unknown_fields(request))
        if found:
            raise InvalidArgument(found)


def _bind(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    metadata = dict(context.invocation_metadata() or ())
    request_id = str(metadata.get(REQUEST_ID_KEY) or uuid.uuid4())
    structlog.contextvars.bind_contextvars(request_id=request_id)


def _log(method: str, started: float) -> None:
    get_logger().info("call", method=method, code="OK", seconds=round(time.monotonic() - started, 4))


async def _abort(
    context: grpc.aio.ServicerContext[Any, Any], error: Exception, method: str, started: float
) -> None:
    if isinstance(error, grpc.aio.AbortError):
        return
    seconds = round(time.monotonic() - started, 4)
    if isinstance(error, ApiError):
        get_logger().info(
            "call",
            method=method,
            code=error.code.name,
            reason=error.reason,
            error=error.message,
            seconds=seconds,
        )
        known = error
    else:
        get_logger().error("call", method=method, code="INTERNAL", seconds=seconds, exc_info=error)
        known = Internal(
            Reason.INTERNAL,
            "An error inside the service, not in the request. Its log has the trace under the request id.",
            {"method": method},
        )
    status = to_status(known)
    await context.abort(
        known.code, known.message, trailing_metadata=((DETAILS_KEY, status.SerializeToString()),)
    )
