"""Writes a file and computes its digest beside the thread that fetches it."""

from __future__ import annotations

import fcntl
import hashlib
import queue
import threading
from pathlib import Path
from types import TracebackType

from tunix_rt.standalone.failures import CommandError

_WAITING = 8
_READ_BYTES = 1024 * 1024


class HashedWriter:
    """Appends to a file, of which no other process appends; what was there counts for the digest.

    `place` is the size at the start, at most `limit`. Writes are done in a thread, in order; an error of one
    is raised by a later call.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise CommandError(
                "FILE_UNUSABLE", f"Another download writes {path.name} already. Wait for it, or end it."
            ) from None
        self._digest = hashlib.sha256()
        self.place = self._load(limit)
        self._waiting: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> HashedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        self._file.close()

    def write(self, data: bytes) -> None:
        """Writes what comes next."""
        if self._error:
            raise self._error
        self._waiting.put(data)

    def digest(self) -> str:
        """The SHA-256 of all that is written, once it is."""
        self._waiting.join()
        if self._error:
            raise self._error
        self._file.flush()
        return self._digest.hexdigest()

    def _load(self, limit: int) -> int:
        self._file.seek(0)
        size = 0
        while size < limit and (chunk := self._file.read(min(_READ_BYTES, limit - size))):
            self._digest.update(chunk)
            size += len(chunk)
        self._file.truncate(size)
        return size

    def _run(self) -> None:
        while (data := self._waiting.get()) is not None:
            try:
                if not self._error:
                    self._digest.update(data)
                    self._file.write(data)
            except OSError as error:
                self._error = error
            finally:
                self._waiting.task_done()
        self._waiting.task_done()
