"""A running formula worker, as the server holds it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunix_rt.jobs.child import Exit

MODULE = "tunix_rt.scoring.formula_worker"
_STOP_SECONDS = 5.0
_CHUNK = 65536


@dataclass(frozen=True)
class Limits:
    """What one comparison may take.

    `cpu_seconds` of the worker's own CPU time, so that a busy machine changes no result. `wall_seconds` only
    catch a worker that hangs.
    """

    cpu_seconds: float = 5.0
    memory_bytes: int = 1 << 30
    wall_seconds: float = 300.0


class ComparisonError(Exception):
    """A comparison ended without a result; its message says why."""


class OverranError(ComparisonError):
    """A comparison used up its CPU time."""


class OutOfMemoryError(ComparisonError):
    """A comparison needed more memory than it may have."""


class WorkerEndedError(Exception):
    """A worker ended, or hung and was killed."""


class FormulaProcess:
    """A worker for one comparison at a time. It inherits no file but its own pipes, and no settings."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TUNIX_RT_")}
        self._process = subprocess.Popen(
            (sys.executable, "-m", MODULE, str(limits.memory_bytes)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**inherited, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def ask(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """The value of `equivalent` or `score_output`.

        Raises ComparisonError; where it is OverranError or OutOfMemoryError, or it is WorkerEndedError, the
        worker has ended.
        """
        request = {"function": function, "arguments": arguments, "cpu_seconds": self.limits.cpu_seconds}
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # the reading below finds out why
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        answer = json.loads(self._line())
        if "out_of_memory" in answer:
            raise OutOfMemoryError(f"it needs more than {self.limits.memory_bytes} bytes of memory")
        if "error" in answer:
            raise ComparisonError(answer["error"])
        return answer["value"]

    def kill(self) -> None:
        """Kills the worker; who waits for its answer learns that it has ended."""
        self._process.kill()

    def close(self) -> None:
        """Kills the worker, waits for its end, and closes its pipes."""
        self._process.kill()
        self._process.wait(_STOP_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _line(self) -> bytes:
        assert self._process.stdout
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + self.limits.wall_seconds
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                self.close()
                raise WorkerEndedError(f"it said nothing for {self.limits.wall_seconds:g} seconds")
            chunk = os.read(descriptor, _CHUNK)
            if not chunk:
                raise self._end()
            line += chunk
        return line

    def _end(self) -> Exception:
        code = self._process.wait(_STOP_SECONDS)
        self.close()
        if code == -signal.SIGPROF:
            return OverranError(f"it takes more than {self.limits.cpu_seconds:g} seconds")
        return WorkerEndedError(f"it {Exit(code).text}")
