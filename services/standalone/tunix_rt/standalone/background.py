"""Starts and stops a stack that runs in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

from tunix_rt.standalone.plan import Options
from tunix_rt.standalone.postgres import EmbeddedPostgres
from tunix_rt.standalone.stack import START_SECONDS, StackError
from tunix_rt.standalone.state import StackRecord, StackRunningError, StateDirectory

_POLL_SECONDS = 0.05
_DOWN_SECONDS = 240.0


def start_in_background(
    state: StateDirectory,
    options: Options,
    *,
    with_parent: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[StackRecord]:
    """Starts a stack and yields its record at each change, the last time when all services serve.

    With `with_parent` it stops when this process ends; `environment` takes the place of this one's.
    Raises StackRunningError, StackError.
    """
    if state.held():
        raise StackRunningError(str(state.root))
    state.make()
    state.clear_record()
    process = _spawn(state, options, with_parent=with_parent, environment=environment)
    deadline = time.monotonic() + START_SECONDS + 90
    last: StackRecord | None = None
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        record = state.read_record()
        if record and record != last and record.pid == process.pid:
            last = record
            yield record
        if record and record.state == "serving":
            process.returncode = 0  # it goes on without us: no warning about a child left behind
            return
        if ended:
            reason = record.error if record and record.error else _log_tail(state)
            state.clear_record()
            raise StackError(reason)
        time.sleep(_POLL_SECONDS)
    process.terminate()
    raise StackError(f"the stack did not start within {START_SECONDS + 90:.0f} s; see {state.logs}")


def stop_in_background(state: StateDirectory) -> Iterator[StackRecord]:
    """Asks the stack to stop and yields its record at each change; returns when it has stopped.

    Where none runs, it stops and removes what a killed one left behind. Raises StackError
    if the stack does not stop.
    """
    record = state.running()
    if record is None:
        if state.read_record() is not None:
            EmbeddedPostgres(state.postgres).stop()
            state.clear_record()
        return
    os.kill(record.pid, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_SECONDS
    last: StackRecord | None = None
    while state.held():
        if time.monotonic() > deadline:
            raise StackError(f"the stack (process {record.pid}) did not stop within {_DOWN_SECONDS:.0f} s.")
        current = state.read_record()
        if current and current != last:
            last = current
            yield current
        time.sleep(_POLL_SECONDS)


def _spawn(
    state: StateDirectory, options: Options, *, with_parent: bool, environment: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tunix_rt.standalone.supervise", str(state.root)]
    command += ["--port", str(options.port), "--web-port", str(options.web_port)]
    command += ["--web-port-fixed"] if options.web_port_fixed else []
    command += ["--with-parent"] if with_parent else []
    with (state.logs / "stack.log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )


def _log_tail(state: StateDirectory) -> str:
    lines = (state.logs / "stack.log").read_text(errors="replace").splitlines()
    return "the stack ended while starting. The end of its log:\n" + "\n".join(lines[-8:])
