"""Supervises the training of a run: its child, its metrics, its checkpoints and its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.blobs.open import open_blobs
from tunix_rt.jobs.child import Child, Exit
from tunix_rt.jobs.directory import JobDirectory, read_json
from tunix_rt.jobs.outbox import Shipped, ship_logs, ship_metrics
from tunix_rt.jobs.remote import LeaseLost, in_store, persist, wait_for_event
from tunix_rt.jobs.tail import whole_lines_bytes
from tunix_rt.jobs.worker import ClaimedJob, Worker
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.errors import Unavailable
from tunix_rt.rpc.metrics import Metrics
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.trainer.outcome import Ending, ending_of, interrupted, outcome_of
from tunix_rt.trainer.recorder import Recorder
from tunix_rt.trainer.settings import Settings
from tunix_rt.trainer.workspace import Workspace
from tunix_rt.v1 import job_service_pb2 as pb
from tunix_rt.v1.job_service_pb2_grpc import JobServiceStub
from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub

MODULE = "tunix_rt.trainer.job"
_OBSERVE_SECONDS = 0.5
_DRAIN_SECONDS = 15.0


class Supervisor:
    """Handles claimed runs: `handle` is what a worker calls.

    An outage of the registry or of the object store delays shipping only; the
    child trains on. When the server shuts down the child has `stop_seconds` to
    save, and what it left has fifteen seconds more to be shipped.
    """

    def __init__(
        self,
        registry: Any,
        jobs: Any,
        blobs: Blobs,
        work: Path,
        *,
        environment: Mapping[str, str],
        stop_seconds: float,
        module: str = MODULE,
    ) -> None:
        self._jobs = jobs
        self._workspace = Workspace(registry, blobs, work)
        self._recorder = Recorder(registry, jobs, blobs)
        self._environment = environment
        self._stop_seconds = stop_seconds
        self._module = module

    async def handle(self, claimed: ClaimedJob) -> pb.FinishJobRequest:
        """Trains, and says how it ended. Raises LeaseLost, and the errors of preparation."""
        limit = asyncio.timeout(None)
        guard = asyncio.ensure_future(self._limit(claimed, limit))
        try:
            async with limit:
                return await self._handle(claimed)
        except TimeoutError:
            if not limit.expired():
                raise
            get_logger().warning("shut down before everything was shipped")
            return outcome_of(Ending.RELEASED)
        finally:
            guard.cancel()
            await asyncio.gather(guard, return_exceptions=True)

    async def _limit(self, claimed: ClaimedJob, limit: asyncio.Timeout) -> None:
        await claimed.stopping.wait()
        limit.reschedule(asyncio.get_running_loop().time() + self._stop_seconds + _DRAIN_SECONDS)

    async def _handle(self, claimed: ClaimedJob) -> pb.FinishJobRequest:
        directory = self._workspace.directory(claimed)
        if not await _unless_interrupted(claimed, self._prepare(claimed, directory)):
            end: Ending | pb.FinishJobRequest = interrupted(claimed)
        else:
            try:
                end = await self._train(claimed, directory)
            except LeaseLost:
                await self._workspace.remove(claimed, all_attempts=False)
                raise
        if isinstance(end, pb.FinishJobRequest):
            get_logger().warning("failed; its directory is kept", directory=str(directory.root))
            return end
        if end is Ending.SUCCEEDED:
            outcome = await self._recorder.record_model(claimed, directory)
        else:
            outcome = outcome_of(end)
        await self._workspace.remove(claimed, all_attempts=end is not Ending.RELEASED)
        return outcome

    async def _prepare(self, claimed: ClaimedJob, directory: JobDirectory) -> None:
        await self._workspace.prepare(claimed)
        await self._recorder.record_rows(claimed, directory)

    async def _train(self, claimed: ClaimedJob, directory: JobDirectory) -> Ending | pb.FinishJobRequest:
        child = await Child.start(self._module, directory, environment=self._environment)
        get_logger().info("training", pid=child.pid, directory=str(directory.root))
        try:
            exit_ = await self._follow(claimed, directory, child)
        finally:
            child.kill()
            await child.wait()
        get_logger().info("child ended", exit=exit_.text)
        return ending_of(claimed, exit_, _read_or_none(directory.outcome), _log_tail(directory.log))

    async def _follow(self, claimed: ClaimedJob, directory: JobDirectory, child: Child) -> Exit:
        """Ships what the child writes until it has ended and all of it is stored."""
        ended, shipped = asyncio.Event(), Shipped()
        name, attempt = claimed.name, claimed.attempt
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ship_metrics(self._jobs, directory, name, attempt, ended, shipped=shipped))
                group.create_task(ship_logs(self._jobs, directory, name, attempt, ended))
                group.create_task(self._recorder.ship_checkpoints(claimed, directory, shipped, ended))
                group.create_task(_observe(claimed, directory, ended))
                exit_ = await self._watch(claimed, child)
                ended.set()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return exit_

    async def _watch(self, claimed: ClaimedJob, child: Child) -> Exit:
        """Waits for the child's end, which it brings about when the attempt is to stop."""
        if not await _unless_interrupted(claimed, child.wait()):
            if claimed.lease_lost.is_set():
                child.kill()
                raise LeaseLost
            get_logger().info("stopping the child", grace_seconds=self._stop_seconds)
            await child.stop(self._stop_seconds)
        return await child.wait()


async def run_workers(settings: Settings, stop: asyncio.Event, metrics: Metrics) -> None:
    """Claims and trains runs in every slot until `stop` is set and all are ended or given back."""
    try:
        blobs = await persist(lambda: in_store(open_blobs, settings.blobs), "object store", until=stop)
    except Unavailable:
        return
    workers: list[Worker] = []
    metrics.gauge("tunix_rt_slots", "Runs that can train at the same time.", lambda: settings.slots)
    metrics.gauge(
        "tunix_rt_slots_busy",
        "Slots that have a run.",
        lambda: sum(worker.working for worker in workers),
    )
    async with open_channel(settings.registry) as channel, asyncio.TaskGroup() as group:
        registry, jobs = RegistryServiceStub(channel), JobServiceStub(channel)
        for slot in range(settings.slots):
            supervisor = Supervisor(
                registry,
                jobs,
                blobs,
                settings.work,
                environment=settings.child_environment(slot),
                stop_seconds=settings.stop_seconds,
            )
            worker = Worker(
                jobs,
                kind="run",
                worker_id=settings.worker_of(slot),
                handle=supervisor.handle,
                lease_seconds=settings.lease_seconds,
            )
            workers.append(worker)
            group.create_task(worker.run(stop))


async def _unless_interrupted(claimed: ClaimedJob, work: Any) -> bool:
    """Whether the work was done before the attempt was to stop; otherwise it is cancelled."""
    task = asyncio.ensure_future(work)
    interruption = asyncio.ensure_future(claimed.interruption())
    try:
        await asyncio.wait((task, interruption), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return False
    finally:
        task.cancel()
        interruption.cancel()
        await asyncio.gather(task, interruption, return_exceptions=True)


async def _observe(claimed: ClaimedJob, directory: JobDirectory, ended: asyncio.Event) -> None:
    """Keeps progress and facts of the attempt up to date."""
    while True:
        finished = ended.is_set()
        if (facts := _read_or_none(directory.facts)) and facts != claimed.facts:
            claimed.facts = facts
            claimed.progress_total = int(facts.get("steps", 0))
        claimed.progress = max(claimed.progress, _last_step(directory.metrics))
        if finished:
            return
        await wait_for_event(ended, _OBSERVE_SECONDS)


def _last_step(metrics: Path) -> int:
    end = whole_lines_bytes(metrics)
    if not end:
        return 0
    with metrics.open("rb") as file:
        file.seek(max(0, end - 65536))
        lines = file.read(min(end, 65536)).splitlines()
    return int(json.loads(lines[-1])["step"])


def _read_or_none(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _log_tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 2000))
        text = file.read().decode("utf-8", "replace")
    return "\n".join(text.splitlines()[-20:]).strip()
