"""Servers that the whole session shares, and how several workers divide the tests.

The servers are PostgreSQL, and S3 (JuiceFS serves MinIO's S3 front end); each worker has its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from hypothesis import settings
from psycopg.sql import SQL, Identifier
from xdist.scheduler import LoadFileScheduling

from tunix_rt.lm.kernels.compiler import keep_code_in
from tunix_rt.standalone.postgres import EmbeddedPostgres

JUICEFS = Path(sys.executable).parent / "juicefs"
ACCESS, SECRET = "tunix-test", "tunix-test-secret"

# Folders whose tests share services: each goes to one worker as a whole.
WHOLE_FOLDERS = ("system", "evaluator", "standalone", "browser")
LONGEST_FIRST = (
    "system",
    "evaluator",
    "trainer_child",
    "lm",
    "standalone",
    "browser",
    "trainer_server",
    "answers",
)

settings.register_profile("tests", deadline=None)  # a busy machine is no error
settings.load_profile("tests")


class FolderScheduling(LoadFileScheduling):
    """Gives a worker a file at a time, or a folder where its tests share what is slow to make."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        return str(Path(path).parent) if Path(path).parent.name in WHOLE_FOLDERS else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FolderScheduling:
    config.option.loadscopereorder = False  # xdist would put the files with the most tests first
    return FolderScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest first, so that no worker is left alone with them."""
    places = {folder: place for place, folder in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.parent.name, len(places)))


def pytest_configure(config: pytest.Config) -> None:
    """Lets this process and the programs that it starts compile each function once, also across sessions."""
    if sys.dont_write_bytecode:  # then each process would compile all that it imports
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(config.cache.mkdir("bytecode"))
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    flags = Path("/proc/cpuinfo").read_bytes().partition(b"flags")[2].partition(b"\n")[0]
    folder = config.cache.mkdir(f"compiled-{hashlib.sha256(flags).hexdigest()[:8]}")  # for this kind of CPU
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"
    keep_code_in(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def compile_cache() -> Path:
    """Where compiled programs are kept, for settings that name the folder."""
    return Path(os.environ["JAX_COMPILATION_CACHE_DIR"])


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL server, in a folder that its own user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="tunix-rt-postgres-"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder / "data")
    server.start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # a test's data need not survive the machine
        connection.execute("SELECT pg_reload_conf()")
    yield server.url
    process = psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split()[0]))
    process.send_signal(signal.SIGQUIT)  # at once, without writing out what is deleted next
    process.wait(30)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def make_database(postgres_url: str) -> Callable[[], str]:
    """Makes an empty database and returns its URL."""

    def make() -> str:
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        return postgres_url.replace("/postgres?", f"/{name}?")

    return make


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("s3")
    metadata = f"sqlite3://{folder}/meta.db"
    environment = {
        **os.environ,
        "MINIO_ROOT_USER": ACCESS,
        "MINIO_ROOT_PASSWORD": SECRET,
        "HOME": str(folder),
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    subprocess.run([JUICEFS, "format", "--storage", "file", "--bucket", f"{folder}/data/", metadata, "test"],
                   check=True, **quiet)  # fmt: skip
    port = free_port()
    command = [JUICEFS, "gateway", "--no-usage-report", "--multi-buckets", "--keep-etag",
               "--cache-dir", f"{folder}/cache", metadata, f"127.0.0.1:{port}"]  # fmt: skip
    with subprocess.Popen(command, **quiet) as server:
        _wait_for(port)
        yield f"s3://{ACCESS}:{SECRET}@127.0.0.1:{port}/blobs?secure=false"
        server.terminate()
        server.wait(20)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
