"""The stack: PostgreSQL and four services, started, watched, restarted and stopped by one process."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from tunix_rt.standalone.plan import Options, Plan, blobs_url, external_database, make_plan
from tunix_rt.standalone.postgres import EmbeddedPostgres
from tunix_rt.standalone.service import ServiceProcess, ServiceSpec, wait_until_serving
from tunix_rt.standalone.state import ServiceRecord, StackRecord, StateDirectory

START_SECONDS = 120.0
STOP_SECONDS = 75.0  # more than the trainer gives its child to save
FIRST_BACKOFF = 0.5
MAX_BACKOFF = 15.0
STEADY_SECONDS = 60.0

Listener = Callable[[StackRecord], None]


class StackError(Exception):
    """The stack cannot start; the message says which part and shows the end of its log."""


class Stack:
    """A stack in a state folder. `run` starts it and returns after it has stopped.

    `listener` hears of every change; the same record is in `stack.json`.
    """

    def __init__(self, state: StateDirectory, options: Options, *, listener: Listener | None = None) -> None:
        self._state = state
        self._options = options
        self._listener = listener or (lambda _: None)
        self._stopping = asyncio.Event()
        self._record = StackRecord(pid=os.getpid(), state="starting", gateway="", web="")
        self._processes: dict[str, ServiceProcess] = {}

    def stop(self) -> None:
        """Asks `run` to stop everything and return."""
        self._stopping.set()

    async def run(self, *, parent: int | None = None) -> None:
        """Runs the stack until SIGTERM, SIGINT, `stop`, or the end of the process `parent`.

        Raises StackRunningError if another one runs in the state folder, StackError,
        PortTakenError or PostgresError if it cannot start.
        """
        self._state.make()
        with self._state.hold():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
            try:
                await self._run_held(parent)
            except Exception as error:
                self._change(state="failed", error=str(error))
                raise
            self._state.clear_record()

    async def _run_held(self, parent: int | None) -> None:
        self._change()
        database = external_database(os.environ)
        postgres = None if database else EmbeddedPostgres(self._state.postgres)
        try:
            if postgres:
                await asyncio.to_thread(postgres.start)
                database = postgres.url
            plan = make_plan(
                self._state,
                self._options,
                database=database,
                blobs=blobs_url(os.environ, self._state),
                metrics=os.environ.get("TUNIX_RT_METRICS", ""),
            )
            await self._serve(plan, parent)
        finally:
            if postgres:
                await asyncio.to_thread(postgres.stop)

    async def _serve(self, plan: Plan, parent: int | None) -> None:
        waiting = tuple(ServiceRecord(spec.name, spec.address, "starting") for spec in plan.services)
        self._change(gateway=plan.gateway, web=plan.web, services=waiting)
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._stopping.wait())]
        if parent:
            tasks.append(asyncio.ensure_future(_gone(parent)))
        try:
            for spec in plan.services:
                await self._start(spec)
            await self._wait_for_start(plan)
            if not self._stopping.is_set():
                self._change(state="serving")
                tasks += [asyncio.ensure_future(self._keep(spec)) for spec in plan.services]
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    await task
        finally:
            await _cancelled(tasks)
            await self._stop_services(plan)

    async def _start(self, spec: ServiceSpec) -> ServiceProcess:
        process = await ServiceProcess.start(spec)
        self._processes[spec.name] = process
        self._service(spec.name, pid=process.pid)
        return process

    async def _wait_for_start(self, plan: Plan) -> None:
        """Waits until all services serve, or a stop is asked for. Raises StackError."""
        serving = [asyncio.create_task(self._wait_for_first(spec)) for spec in plan.services]
        stop = asyncio.create_task(self._stopping.wait())
        everything: asyncio.Future[Any] = asyncio.gather(*serving)
        both: list[asyncio.Future[Any]] = [everything, stop]
        try:
            await asyncio.wait(both, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if everything.done():
                await everything
            elif not stop.done():
                late = [service.name for service in self._record.services if service.state != "serving"]
                raise StackError(f"{', '.join(late)} did not serve within {START_SECONDS:.0f} s.")
        finally:
            await _cancelled([everything, stop, *serving])

    async def _wait_for_first(self, spec: ServiceSpec) -> None:
        """Returns when a service serves for the first time. Raises StackError if it ends before."""
        process = self._processes[spec.name]
        how = await _serving_or_ended(process)
        if how is None:
            self._service(spec.name, state="serving")
        elif not self._stopping.is_set():
            log = f"The end of {spec.log}:\n{process.log_tail()}"
            raise StackError(f"{spec.name} ended while starting ({how}). {log}")

    async def _keep(self, spec: ServiceSpec) -> None:
        """Starts a service again, after a growing pause, whenever it ends unasked."""
        backoff, restarts = FIRST_BACKOFF, 0
        process, began = self._processes[spec.name], time.monotonic()
        while True:
            how = await process.ended()
            if time.monotonic() - began > STEADY_SECONDS:
                backoff = FIRST_BACKOFF
            restarts += 1
            reason = f"{how}; starts again in {backoff:.1f} s"
            self._service(spec.name, state="restarting", restarts=restarts, reason=reason)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF)
            process, began = await self._start(spec), time.monotonic()
            if await _serving_or_ended(process) is None:
                self._service(spec.name, state="serving", reason=how)

    async def _stop_services(self, plan: Plan) -> None:
        """Stops the workers first, so that they hand their jobs back, then registry and gateway."""
        self._change(state="stopping")
        for group in (("trainer", "evaluator"), ("gateway",), ("registry",)):
            names = [spec.name for spec in plan.services if spec.name in group]
            await asyncio.gather(*(self._stop_service(name) for name in names))

    async def _stop_service(self, name: str) -> None:
        if name in self._processes:
            await self._processes[name].stop(STOP_SECONDS)
            self._service(name, state="stopped", reason="")

    def _service(self, name: str, **changes: str | int) -> None:
        services = tuple(
            dataclasses.replace(service, **changes) if service.name == name else service  # type: ignore[arg-type]
            for service in self._record.services
        )
        self._change(services=services)

    def _change(self, **changes: object) -> None:
        self._record = dataclasses.replace(self._record, **changes)  # type: ignore[arg-type]
        self._state.write_record(self._record)
        self._listener(self._record)


async def _serving_or_ended(process: ServiceProcess) -> str | None:
    """None once the service serves, or how its process ended before that."""
    health = asyncio.create_task(wait_until_serving(process.spec.address))
    end = asyncio.create_task(process.ended())
    both: list[asyncio.Future[Any]] = [health, end]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if end.done():
            return end.result()
        await health
        return None
    finally:
        await _cancelled(both)


async def _gone(parent: int) -> None:
    """Returns when this process has lost the parent that started it."""
    while os.getppid() == parent:  # noqa: ASYNC110, the kernel sets no event for it
        await asyncio.sleep(0.5)


async def _cancelled(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancels the tasks and waits for their ends."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
