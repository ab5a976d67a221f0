"""What a server counts and measures, and the page from which Prometheus reads it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from importlib.metadata import version
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Info,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tunix_rt.rpc.telemetry import get_logger

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series

SCRAPE_SECONDS = 5.0
Measure = Callable[[], Awaitable[Iterable[Metric]]]


class Metrics:
    """The metrics of one server, counted whether or not anybody reads them.

    `serve` opens the page `http://address/metrics`; an empty address opens none. Nobody is asked for a token.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.port = 0
        ProcessCollector(registry=self.registry)
        Info("tunix_rt", "The version of tunix-rt.", registry=self.registry).info(
            {"version": version("tunix-rt")}
        )
        self._http: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    def counter(self, name: str, text: str, labels: Iterable[str] = ()) -> Counter:
        """A new counter; Prometheus sees it as `name_total`."""
        return Counter(name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Adds a value that is read from a function at each scrape."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def on_scrape(self, measure: Measure) -> None:
        """Adds what a coroutine measures at each scrape, in the event loop that runs now.

        What fails or takes longer than `SCRAPE_SECONDS` is left out of that scrape, and the log says so.
        """
        self.registry.register(_Measured(measure, asyncio.get_running_loop()))

    def serve(self, address: str) -> None:
        """Opens the page on `host:port`. Raises ValueError for another form, RuntimeError if it is taken."""
        if not address:
            return
        host, separator, port = address.rpartition(":")
        if not separator or not port.isdigit():
            raise ValueError(f"TUNIX_RT_METRICS is `{address}`; it must have the form `host:port`.")
        try:
            self._http, self._thread = start_http_server(int(port), host.strip("[]"), self.registry)
        except OSError as error:
            raise RuntimeError(f"cannot serve metrics at {address}: {error}") from error
        self.port = self._http.server_port
        get_logger().info("metrics served", port=self.port)

    async def close(self) -> None:
        """Closes the page."""
        if self._http and self._thread:
            await asyncio.to_thread(self._http.shutdown)  # a scrape that waits for this loop can end
            self._http.server_close()
            self._thread.join()
            self._http = self._thread = None


class _Measured(Collector):
    def __init__(self, measure: Measure, loop: asyncio.AbstractEventLoop) -> None:
        self._measure = measure
        self._loop = loop

    def describe(self) -> Iterator[Metric]:
        """Nothing: what is measured is not known beforehand."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """What is measured now; called in the thread of a scrape."""

        async def measured() -> list[Metric]:
            async with asyncio.timeout(SCRAPE_SECONDS):
                return list(await self._measure())

        try:
            yield from asyncio.run_coroutine_threadsafe(measured(), self._loop).result(SCRAPE_SECONDS + 1)
        except Exception as error:
            get_logger().warning("not measured", error=str(error) or type(error).__name__)
