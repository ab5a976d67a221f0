"""Outputs of earlier evaluations, kept on disk: the same question to the same weights is answered once."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TypeVar

from tunix_rt.evaluator.messages import Decoding

T = TypeVar("T")

_FILE = "outputs.sqlite3"
_WAIT_SECONDS = 2.0  # for another process's write
_KEEP = 0.9  # of the limit, so that not every write has to make room
_DELETE_ROWS = 64
_BROKEN = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_NOTADB}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS outputs (
    key BLOB PRIMARY KEY, used INTEGER NOT NULL, value BLOB NOT NULL, digest BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS outputs_by_use ON outputs (used);
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Output:
    """What the engine made of a prompt, and how long it took then."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    latency_seconds: float


def output_key(
    weights: str,
    tokens: Sequence[int],
    decoding: Decoding,
    *,
    item: int,
    sample: int,
    engine: str,
) -> bytes:
    """The SHA-256 of all that an output depends on.

    `weights` is the digest of the model's files, its tokenizer's among them, with the type in which the
    engine holds them; `engine` names the code and
    the device. Every field of `decoding` counts, later ones too. Item, sample and seed fix random
    draws, so they do not count for greedy decoding, which makes none.
    """
    settings = asdict(decoding)
    draws: list[int] = [decoding.seed, item, sample] if decoding.temperature > 0 else []
    del settings["seed"]
    identity = [engine, weights, list(tokens), sorted(settings.items()), draws]
    return hashlib.sha256(json.dumps(identity, allow_nan=False).encode()).digest()


class OutputCache:
    """Outputs by key in an SQLite file in `folder`, at most about `limit_bytes`.

    Those that were used least recently go first. Several processes may share the folder, and any of
    them may be killed at any time. The cache never raises: what cannot be read is not there, what
    cannot be written is not kept, and the log says why. A broken file is moved aside. Each output
    carries a digest of itself and its key, so that a damaged one is never given out.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._path = folder / _FILE
        self._limit = limit_bytes
        self._connection: sqlite3.Connection | None = None
        self._file = 0  # the number of the file that is open

    def get(self, keys: Iterable[bytes]) -> dict[bytes, Output]:
        """The outputs that are kept under these keys; they count as used now."""
        wanted = list(keys)
        if not wanted:
            return {}
        return self._try(lambda database: _transact(database, lambda: _read(database, wanted)), {})

    def put(self, outputs: Mapping[bytes, Output]) -> None:
        """Keeps the outputs, all or none, and makes room."""
        if outputs:
            self._try(lambda database: _store(database, outputs, self._limit), None)

    def close(self) -> None:
        """Closes the file; the next use opens it again."""
        if self._connection:
            self._connection.close()
        self._connection = None

    def _try(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What `work` returns; `otherwise` where the file cannot be used."""
        for _ in range(2):
            try:
                return work(self._open())
            except sqlite3.DatabaseError as error:
                broken = getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN
                if not broken:
                    _log.warning("The output cache cannot be used now: %s", error)
                    return otherwise
                self._move_aside(error)
            except OSError as error:
                _log.warning("The output cache cannot be used now: %s", error)
                return otherwise
        return otherwise

    def _open(self) -> sqlite3.Connection:
        if self._connection and _file_number(self._path) == self._file:
            return self._connection
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None)
        self._connection, self._file = connection, _file_number(self._path)
        for setting in ("auto_vacuum = INCREMENTAL", "journal_mode = WAL", "synchronous = NORMAL"):
            connection.execute(f"PRAGMA {setting}").fetchall()
        connection.executescript(_SCHEMA)
        return connection

    def _move_aside(self, error: Exception) -> None:
        """Renames the file that is open, unless another process has done so already."""
        self.close()
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _file_number(self._path) != self._file:
                return
            aside = self._path.with_suffix(".broken")
            self._path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(_FILE + suffix).unlink(missing_ok=True)
        _log.warning("The output cache is broken (%s); it is now %s, and a new one is begun.", error, aside)


def _transact(database: sqlite3.Connection, work: Callable[[], T]) -> T:
    database.execute("BEGIN IMMEDIATE")
    try:
        done = work()
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    return done


def _read(database: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Output]:
    found = {}
    for key in keys:
        row = database.execute(
            "SELECT CAST(value AS BLOB), digest FROM outputs WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            continue
        if row[1] != _digest(key, row[0]):
            _log.warning("An output in the cache is damaged; it is made again.")
            database.execute("DELETE FROM outputs WHERE key = ?", (key,))
            continue
        found[key] = Output(*json.loads(row[0]))
    now = _next_use(database)
    database.executemany("UPDATE outputs SET used = ? WHERE key = ?", [(now, key) for key in found])
    return found


def _store(database: sqlite3.Connection, outputs: Mapping[bytes, Output], limit: int) -> None:
    if _transact(database, lambda: _write(database, outputs, limit)):
        database.executescript("PRAGMA incremental_vacuum;")  # `execute` would free one page only


def _write(database: sqlite3.Connection, outputs: Mapping[bytes, Output], limit: int) -> bool:
    """Writes the outputs; returns whether others had to go."""
    now = _next_use(database)
    values = {
        key: json.dumps(astuple(output), ensure_ascii=False).encode() for key, output in outputs.items()
    }
    database.executemany(
        "INSERT OR REPLACE INTO outputs (key, used, value, digest) VALUES (?, ?, ?, ?)",
        [(key, now, value, _digest(key, value)) for key, value in values.items()],
    )
    if _used_bytes(database) <= limit:
        return False
    oldest = "SELECT key FROM outputs ORDER BY used LIMIT ?"
    while _used_bytes(database) > limit * _KEEP:
        if not database.execute(f"DELETE FROM outputs WHERE key IN ({oldest})", (_DELETE_ROWS,)).rowcount:
            break
    return True


def _next_use(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT COALESCE(MAX(used), 0) + 1 FROM outputs").fetchone()[0])


def _used_bytes(database: sqlite3.Connection) -> int:
    pages, free, size = (
        int(database.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _digest(key: bytes, value: bytes) -> bytes:
    return hashlib.sha256(key + value).digest()


def _file_number(path: Path) -> int:
    """The number of the file that a path names, 0 if there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
