"""The state folder of a stack: where its parts lie, and whether a stack is running in it."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

STATE_VARIABLE = "TUNIX_RT_STATE"
DEFAULT_STATE = ".tunix-rt"


@dataclass(frozen=True)
class ServiceRecord:
    """One service of a running stack; `state` is `starting`, `serving`, `restarting` or `stopped`."""

    name: str
    address: str
    state: str
    pid: int = 0
    restarts: int = 0
    reason: str = ""


@dataclass(frozen=True)
class StackRecord:
    """What `stack.json` says; `state` is `starting`, `serving`, `stopping` or `failed`."""

    pid: int
    state: str
    gateway: str
    web: str
    services: tuple[ServiceRecord, ...] = field(default=())
    error: str = ""

    def service(self, name: str) -> ServiceRecord:
        """The record of one service. Raises KeyError."""
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(name)


class StackRunningError(Exception):
    """Another process runs a stack in the same state folder."""


@dataclass(frozen=True)
class StateDirectory:
    """The folder under which a stack keeps everything; `root` is absolute."""

    root: Path

    @classmethod
    def locate(cls, given: Path | None = None) -> StateDirectory:
        """The folder given, or that of `TUNIX_RT_STATE`, or `./.tunix-rt`."""
        return cls((given or Path(os.environ.get(STATE_VARIABLE) or DEFAULT_STATE)).expanduser().absolute())

    @property
    def postgres(self) -> Path:
        """The data of the embedded PostgreSQL."""
        return self.root / "postgres"

    @property
    def blobs(self) -> Path:
        """The folder of the object store."""
        return self.root / "blobs"

    @property
    def work(self) -> Path:
        """Scratch space of the workers."""
        return self.root / "work"

    @property
    def compile_cache(self) -> Path:
        """Compiled programs, kept between runs."""
        return self.root / "compile-cache"

    @property
    def logs(self) -> Path:
        """One log a service."""
        return self.root / "logs"

    @property
    def record_path(self) -> Path:
        """The file that says what runs."""
        return self.root / "stack.json"

    def make(self) -> None:
        """Makes the folders that are missing."""
        for path in (self.root, self.blobs, self.work, self.compile_cache, self.logs):
            path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Marks the folder as in use until the block ends or the process dies.

        Raises StackRunningError if another process holds it.
        """
        with self._lock_path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StackRunningError(str(self.root)) from error
            yield

    def held(self) -> bool:
        """Whether a living process runs a stack here; a record left by a killed one does not count."""
        try:
            with self._lock_path.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def write_record(self, record: StackRecord) -> None:
        """Writes `stack.json`, whole or not at all."""
        partial = self.record_path.with_name("stack.json.partial")
        partial.write_text(json.dumps(dataclasses.asdict(record), indent=2) + "\n", encoding="utf-8")
        partial.replace(self.record_path)

    def clear_record(self) -> None:
        """Removes `stack.json`."""
        self.record_path.unlink(missing_ok=True)

    def read_record(self) -> StackRecord | None:
        """What `stack.json` says, also if the stack is gone; None without one."""
        try:
            values = json.loads(self.record_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        services = tuple(ServiceRecord(**service) for service in values.pop("services"))
        return StackRecord(**values, services=services)

    def running(self) -> StackRecord | None:
        """The record of the stack that runs here; None if there is none, or only a stale record."""
        return self.read_record() if self.held() else None

    @property
    def _lock_path(self) -> Path:
        return self.root / "lock"
