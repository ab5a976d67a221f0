"""The registry's shell: a transaction for each call, and a wake-up after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tunix_rt.blobs.blobs import Blobs, BlobsUnavailableError
from tunix_rt.blobs.open import open_blobs
from tunix_rt.registry.database import Database
from tunix_rt.registry.job_servicer import JobServicer
from tunix_rt.registry.registry_servicer import RegistryServicer
from tunix_rt.registry.settings import Settings
from tunix_rt.registry.telemetry import Ingested, Measured
from tunix_rt.registry.wakeups import Wakeups
from tunix_rt.rpc.errors import Reason, Unavailable
from tunix_rt.rpc.health import Dependency
from tunix_rt.rpc.server import DRAIN_SECONDS, Server
from tunix_rt.v1 import job_service_pb2_grpc, registry_service_pb2_grpc

SERVICES = ("tunix_rt.v1.RegistryService", "tunix_rt.v1.JobService")


def utc_now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


class RegistryServer(Server):
    """The server of RegistryService and JobService on one database and one object store.

    `clock` decides about leases and gives the times that are stored. Both services are NOT_SERVING while
    database or object store do not answer.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._settings = settings
        self._clock = clock
        self._database = Database(settings.database)
        self._blobs: Blobs | None = None
        dependencies = (Dependency("database", self._database.check), Dependency("blobs", self._check_blobs))
        super().__init__(
            settings.listen, SERVICES, dependencies=dependencies, metrics_address=settings.metrics
        )
        self._wakeups = Wakeups(self._database)

    async def start(self) -> None:
        """Opens object store and database, migrates, and serves. Raises Unavailable if one is away."""
        self._blobs = blobs = await asyncio.to_thread(_open_blobs, self._settings.blobs)
        await self._database.open()
        self._wakeups.start()
        ingested, measured = Ingested(self.metrics), Measured(self._database)
        registry: Any = RegistryServicer(self._database, blobs, self._wakeups, self._clock, ingested)
        jobs: Any = JobServicer(self._database, blobs, self._wakeups, self._clock, ingested)
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(registry, self.grpc_server)
        job_service_pb2_grpc.add_JobServiceServicer_to_server(jobs, self.grpc_server)
        await super().start()
        self.metrics.on_scrape(measured.pool)
        self.metrics.on_scrape(measured.jobs)

    async def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Answers waiting calls, drains, and closes the database."""
        self._wakeups.release()
        await super().stop(grace)
        await self._wakeups.stop()
        await self._database.close()

    async def _check_blobs(self) -> None:
        assert self._blobs is not None
        await asyncio.to_thread(self._blobs.check)


async def start(settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> RegistryServer:
    """A server that serves already; `port` is its port."""
    server = RegistryServer(settings, clock=clock)
    await server.start()
    return server


def _open_blobs(url: str) -> Blobs:
    try:
        return open_blobs(url)
    except BlobsUnavailableError as error:
        raise Unavailable(Reason.BLOBS_UNAVAILABLE, f"The object store does not answer: {error}") from error
