"""Counts and times the calls of a server, under the names that other gRPC servers use."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pool
from prometheus_client import Gauge, Histogram

from tunix_rt.rpc.interceptors import QUIET, rewrapped
from tunix_rt.rpc.metrics import Metrics

if TYPE_CHECKING:
    from tunix_rt.rpc.interceptors import Continuation, Handler

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_LABELS = ("grpc_type", "grpc_service", "grpc_method")
_UNKNOWN = ("unknown", "unknown", "unknown")


class CallMetrics(grpc.aio.ServerInterceptor):
    """Counts calls by method and code, the open ones too, and measures how long they take.

    Methods that do not exist are counted together, since their names are the caller's. Put it first.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._handled = metrics.counter(
            "grpc_server_handled", "Calls that have ended, by code.", (*_LABELS, "grpc_code")
        )
        self._open = Gauge(
            "grpc_server_open", "Calls that have not ended.", _LABELS, registry=metrics.registry
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "How long calls took, with the waiting of lists that wait.",
            _LABELS,
            buckets=_BUCKETS,
            registry=metrics.registry,
        )

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Wraps the handler of a call, of whichever of the four kinds."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method.startswith(QUIET):
            return handler
        labels = method_labels(method)
        return rewrapped(
            handler,
            unary=lambda behaviour: self._unary(behaviour, labels),
            stream=lambda behaviour: self._stream(behaviour, labels),
        )

    def _unary(self, behaviour: Any, labels: tuple[str, str, str]) -> Any:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            with self._measured(context, labels):
                return await behaviour(request, context)

        return call

    def _stream(self, behaviour: Any, labels: tuple[str, str, str]) -> Any:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            with self._measured(context, labels):
                async for response in behaviour(request, context):
                    yield response

        return call

    @contextmanager
    def _measured(
        self, context: grpc.aio.ServicerContext[Any, Any], labels: tuple[str, str, str]
    ) -> Iterator[None]:
        started, code = time.monotonic(), "CANCELLED"
        opened = self._open.labels(*labels)
        opened.inc()
        try:
            yield
            code = "OK"
        except Exception:
            given: object = context.code()  # what was given to abort
            code = given.name if isinstance(given, grpc.StatusCode) else "UNKNOWN"
            raise
        finally:
            opened.dec()
            self._handled.labels(*labels, code).inc()
            self._seconds.labels(*labels).observe(time.monotonic() - started)


@functools.lru_cache(maxsize=1024)
def method_labels(path: str) -> tuple[str, str, str]:
    """Kind, service and method of a call to `/service/method`."""
    service, _, name = path.removeprefix("/").rpartition("/")
    try:
        method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return _UNKNOWN
    kinds = {
        (False, False): "unary",
        (True, False): "client_stream",
        (False, True): "server_stream",
        (True, True): "bidi_stream",
    }
    return kinds[method.client_streaming, method.server_streaming], service, name
