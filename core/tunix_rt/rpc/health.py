"""What a server answers to health checks: whether it serves, whether it lives, and what it depends on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from grpc_health.v1 import health, health_pb2
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from tunix_rt.rpc.telemetry import get_logger

LIVE = "live"
CHECK_SECONDS = 3.0
PAUSE_SECONDS = 1.0
Status = health_pb2.HealthCheckResponse.ServingStatus


@dataclass(frozen=True)
class Dependency:
    """Something without which services cannot serve; `check` raises while it is away.

    `name` can be asked for like a service. `services` are those that need it, all of the server's if empty.
    """

    name: str
    check: Callable[[], Awaitable[object]]
    services: tuple[str, ...] = ()


class Health:
    """The health of a server by name: `""`, its services, its dependencies, and `live`.

    From `start` to `drain` a service is SERVING while all that it depends on answers, `""` while all that
    names no service does, and `live` always: who restarts processes asks for `live`, who routes calls asks
    for the others. A dependency is asked once a second; one that takes longer than `CHECK_SECONDS` counts as
    away, and is not asked a second time meanwhile.
    """

    def __init__(self, services: Sequence[str], dependencies: Sequence[Dependency] = ()) -> None:
        self.servicer = health.aio.HealthServicer()
        self._services = tuple(services)
        self._dependencies = tuple(dependencies)
        self._away = {dependency.name: "it was not asked yet" for dependency in dependencies}
        self._serving = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Asks each dependency once, and answers from then on."""
        await asyncio.gather(*(self._ask_once(dependency) for dependency in self._dependencies))
        self._serving = True
        await self._publish()
        self._tasks = [asyncio.create_task(self._keep_asking(each)) for each in self._dependencies]

    async def drain(self) -> None:
        """Answers NOT_SERVING to every name for good."""
        self._serving = False
        await self._publish()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def measure(self) -> Iterable[Metric]:
        """Whether each dependency answers, for a scrape."""
        text = "1 if it answers, 0 if it is away."
        up = GaugeMetricFamily("tunix_rt_dependency_up", text, labels=["dependency"])
        for dependency in self._dependencies:
            up.add_metric([dependency.name], float(dependency.name not in self._away))
        return [up]

    async def _ask_once(self, dependency: Dependency) -> None:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await dependency.check()
        except Exception as error:
            self._note(dependency, _text(error))
        else:
            self._note(dependency, None)

    async def _keep_asking(self, dependency: Dependency) -> None:
        asked: asyncio.Future[object] | None = None
        try:
            while True:
                await asyncio.sleep(PAUSE_SECONDS)
                asked = asked or asyncio.ensure_future(dependency.check())
                await asyncio.wait({asked}, timeout=CHECK_SECONDS)
                if asked.done():
                    error = asked.exception()
                    asked = None
                    self._note(dependency, None if error is None else _text(error))
                else:
                    self._note(dependency, f"no answer within {CHECK_SECONDS:g} s")
                await self._publish()
        finally:
            if asked:
                asked.cancel()

    def _note(self, dependency: Dependency, reason: str | None) -> None:
        was_away = self._away.get(dependency.name)
        if reason is None:
            if self._away.pop(dependency.name, None) and self._serving:
                get_logger().info("dependency answers", dependency=dependency.name)
            return
        self._away[dependency.name] = reason
        if was_away is None or not self._serving:
            get_logger().warning("dependency away", dependency=dependency.name, error=reason)

    async def _publish(self) -> None:
        lacking = {
            service
            for dependency in self._dependencies
            if dependency.name in self._away
            for service in (dependency.services or ("", *self._services))
        }
        for service in ("", *self._services):
            await self._set(service, service not in lacking)
        for dependency in self._dependencies:
            await self._set(dependency.name, dependency.name not in self._away)
        await self._set(LIVE, True)

    async def _set(self, name: str, well: bool) -> None:
        serving = self._serving and well
        await self.servicer.set(name, Status.SERVING if serving else Status.NOT_SERVING)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
