"""A job's child process: started in a group of its own, ended by SIGTERM, then SIGKILL."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from tunix_rt.jobs.directory import JobDirectory


@dataclass(frozen=True)
class Exit:
    """How a process ended: its exit code, or minus the number of the signal that killed it."""

    code: int

    @property
    def text(self) -> str:
        """How it ended, such as `was killed by SIGKILL`."""
        if self.code >= 0:
            return f"exited with code {self.code}"
        try:
            return f"was killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"was killed by signal {-self.code}"


class Child:
    """A running `python -m MODULE DIRECTORY` whose output goes to the directory's log.

    It dies with the thread that started it (Linux), so start it from the main thread.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(
        cls, module: str, directory: JobDirectory, *, environment: Mapping[str, str] | None = None
    ) -> Child:
        """Starts the module with `environment` and that of this process, less its own settings.

        Settings, `TUNIX_RT_…`, hold keys that a child has no use for.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TUNIX_RT_")}
        with directory.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-X",
                "faulthandler",
                "-m",
                "tunix_rt.jobs.launch",
                str(os.getpid()),
                module,
                str(directory.root),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env={**inherited, "PYTHONUNBUFFERED": "1", **(environment or {})},
                start_new_session=True,
            )
        return cls(process)

    @property
    def pid(self) -> int:
        """The number of the process and of its group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    def terminate(self) -> None:
        """Asks it to save and end; nothing if it has ended."""
        if self.running:
            self._process.terminate()

    def kill(self) -> None:
        """Kills it and what it started; nothing if it has ended."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)

    async def wait(self) -> Exit:
        """Waits for its end."""
        return Exit(await self._process.wait())

    async def stop(self, grace: float) -> Exit:
        """Asks it to end, and kills it if it has not ended after `grace` seconds."""
        self.terminate()
        try:
            async with asyncio.timeout(grace):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()
