"""Servers that the whole session shares: PostgreSQL, and S3 (JuiceFS serves MinIO's S3 front end)."""

from __future__ import annotations

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

import psutil
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tunix_rt.standalone.postgres import EmbeddedPostgres

JUICEFS = Path(sys.executable).parent / "juicefs"
ACCESS, SECRET = "tunix-test", "tunix-test-secret"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
    command = [JUICEFS, "gateway", "--no-usage-report", "--multi-buckets", "--cache-dir", f"{folder}/cache",
               metadata, f"127.0.0.1:{port}"]  # fmt: skip
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
