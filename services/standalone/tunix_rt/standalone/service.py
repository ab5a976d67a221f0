"""One service of the stack: a process with its settings, its log and its health check."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

LAUNCHER = "tunix_rt.jobs.launch"  # the services die with the supervisor
_LOG_TAIL_LINES = 5


@dataclass(frozen=True)
class ServiceSpec:
    """What to run: `python -m module` with `environment`, listening at `address`."""

    name: str
    module: str
    address: str
    environment: Mapping[str, str]
    log: Path


class ServiceProcess:
    """The running process of a service."""

    def __init__(self, spec: ServiceSpec, process: asyncio.subprocess.Process) -> None:
        self.spec = spec
        self._process = process

    @classmethod
    async def start(cls, spec: ServiceSpec) -> ServiceProcess:
        """Starts the process; its output is appended to the log. Call it from the main thread."""
        with spec.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                LAUNCHER,
                str(os.getpid()),
                spec.module,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **spec.environment},
                start_new_session=True,
            )
        return cls(spec, process)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    async def ended(self) -> str:
        """Waits for its end and says how it ended, such as `exit code 1`."""
        code = await self._process.wait()
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    async def stop(self, grace: float) -> None:
        """Asks it to drain and end; kills it and what it started after `grace` seconds."""
        if self.running:
            self._process.terminate()
            try:
                async with asyncio.timeout(grace):
                    await self._process.wait()
            except TimeoutError:
                os.killpg(self.pid, signal.SIGKILL)
                await self._process.wait()

    def log_tail(self) -> str:
        """The last lines of its log."""
        try:
            lines = self.spec.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-_LOG_TAIL_LINES:])


async def wait_until_serving(address: str) -> None:
    """Returns when the server at an address answers SERVING; waits for ever."""
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 250)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                call = stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=5)
                response = await call
                if response.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError as error:
                if error.code() not in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}:
                    raise
            await asyncio.sleep(0.1)
