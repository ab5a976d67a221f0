"""Uploads and downloads that break off, and go on."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from tunix_rt.rpc.channel import open_blocking_channel
from tunix_rt.standalone.transfers import describe_files, download_files, upload_files
from tunix_rt.v1 import registry_service_pb2 as pb
from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub

DATA = os.urandom(12_000_000)
DIGEST = hashlib.sha256(DATA).hexdigest()
HALF = len(DATA) // 2


async def send(registry, *messages):
    async def requests():
        for message in messages:
            yield message

    return [response.committed async for response in registry.registry.UploadBlob(requests())]


async def send_from(registry, offset, *, data=DATA):
    """The first response, and the last one, to the bytes from an offset."""
    call = registry.registry.UploadBlob()
    await call.write(pb.UploadBlobRequest(sha256=DIGEST, size_bytes=len(DATA)))
    first = (await call.read()).committed
    for place in range(offset, len(data), 1 << 20):
        await call.write(pb.UploadBlobRequest(data=data[place : place + (1 << 20)], offset=place))
    await call.done_writing()
    return first, (await call.read()).committed


async def broken_upload(registry, size=HALF):
    """Sends the first bytes and ends the stream."""
    failure = await registry.failure_of(
        send(
            registry,
            pb.UploadBlobRequest(sha256=DIGEST, size_bytes=len(DATA)),
            *(
                pb.UploadBlobRequest(data=DATA[at : min(at + 1_000_000, size)])
                for at in range(0, size, 1_000_000)
            ),
        )
    )
    assert list(failure.fields) == ["size_bytes"]


async def read(registry):
    chunks = registry.registry.ReadBlob(pb.ReadBlobRequest(sha256=DIGEST))
    return b"".join([chunk.data async for chunk in chunks])


async def test_an_upload_goes_on_where_it_broke_off(registry):
    await broken_upload(registry)
    assert await send_from(registry, HALF) == (HALF, len(DATA))
    assert await read(registry) == DATA


async def test_a_broken_upload_cannot_be_read(registry):
    await broken_upload(registry)
    failure = await registry.failure_of(read(registry))
    assert failure.reason == "BLOB_MISSING"


async def test_a_client_that_begins_anew_replaces_what_was_there(registry):
    await broken_upload(registry)
    assert await send_from(registry, 0) == (HALF, len(DATA))
    assert await read(registry) == DATA


async def test_a_client_may_go_on_before_the_end_of_what_is_there(registry):
    await broken_upload(registry)
    assert await send_from(registry, HALF - 1_500_000) == (HALF, len(DATA))
    assert await read(registry) == DATA


async def test_a_gap_is_out_of_range_and_says_where_to_go_on(registry):
    await broken_upload(registry)
    failure = await registry.failure_of(
        send(
            registry,
            pb.UploadBlobRequest(sha256=DIGEST, size_bytes=len(DATA)),
            pb.UploadBlobRequest(data=b"abc", offset=HALF + 1),
        )
    )
    assert (failure.code, failure.reason) == (grpc.StatusCode.OUT_OF_RANGE, "STREAM_GAP")
    assert str(HALF) in failure.message


async def test_a_wrong_start_is_found_at_the_end_and_forgotten(registry):
    await broken_upload(registry)
    (partial,) = (registry.blobs / "partial").iterdir()
    partial.write_bytes(bytes(HALF))
    failure = await registry.failure_of(send_from(registry, HALF))
    assert failure.reason == "BLOB_CORRUPT"
    assert not list((registry.blobs / "partial").iterdir())
    assert await send_from(registry, 0) == (0, len(DATA))


async def test_two_uploads_of_the_same_bytes_at_once_both_succeed(registry):
    one, other = registry.registry.UploadBlob(), registry.registry.UploadBlob()
    await one.write(pb.UploadBlobRequest(sha256=DIGEST, size_bytes=len(DATA)))
    assert (await one.read()).committed == 0
    await other.write(pb.UploadBlobRequest(sha256=DIGEST, size_bytes=len(DATA)))
    assert (await other.read()).committed == 0
    for call in (one, other):
        for place in range(0, len(DATA), 1 << 20):
            await call.write(pb.UploadBlobRequest(data=DATA[place : place + (1 << 20)]))
        await call.done_writing()
    assert [(await call.read()).committed for call in (one, other)] == [len(DATA)] * 2
    assert not list((registry.blobs / "partial").iterdir())


async def test_what_nobody_goes_on_with_is_swept_by_a_later_upload(registry):
    await broken_upload(registry)
    (partial,) = (registry.blobs / "partial").iterdir()
    os.utime(partial, (0, 0))
    await registry.upload(b"another file")
    assert not list((registry.blobs / "partial").iterdir())


class Process:
    """A registry as a process that can be killed and started again on its port."""

    def __init__(self, database: str, folder: Path, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.environment = {
            **os.environ,
            "TUNIX_RT_DATABASE": database,
            "TUNIX_RT_BLOBS": f"file://{folder}/blobs",
            "TUNIX_RT_LISTEN": self.address,
        }
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "tunix_rt.registry"], env=self.environment,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        with grpc.insecure_channel(self.address) as channel:
            grpc.channel_ready_future(channel).result(60)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


@pytest.fixture
def process(make_database, tmp_path):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Process(make_database(), tmp_path, port)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "weights").write_bytes(DATA)
    yield made
    made.kill()


class Meter:
    """Hears of bytes done, and does something once when half of them are."""

    def __init__(self, action) -> None:
        self.told: list[int] = []
        self.action = action

    def __call__(self, done: int) -> None:
        self.told.append(done)
        if self.action and sum(self.told) >= HALF:
            action, self.action = self.action, None
            action()


def test_killed_servers_and_clients_lose_no_bytes_and_leave_nothing_half(process, tmp_path):
    def restart() -> None:
        process.kill()
        process.start()

    with open_blocking_channel(process.address) as channel:
        registry = RegistryServiceStub(channel)
        files = describe_files(tmp_path / "source")
        meter = Meter(restart)
        upload_files(registry, tmp_path / "source", files, advance=meter)
        assert sum(meter.told) == len(DATA)
        meter = Meter(restart)
        download_files(registry, files, tmp_path / "target", advance=meter)
        assert sum(meter.told) == len(DATA)
        assert (tmp_path / "target" / "weights").read_bytes() == DATA
        assert [path.name for path in (tmp_path / "target").iterdir()] == ["weights"]


CLIENT = """
import os, signal, sys
from pathlib import Path
from tunix_rt.rpc.channel import open_blocking_channel
from tunix_rt.standalone.transfers import describe_files, download_files, upload_files
from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub
address, what, source, target, fatal = sys.argv[1:]
files, told = describe_files(Path(source)), []
def advance(done):
    told.append(done)
    if sum(told) >= int(fatal):
        os.kill(os.getpid(), signal.SIGKILL)
registry = RegistryServiceStub(open_blocking_channel(address))
if what == "up":
    upload_files(registry, Path(source), files, advance=advance)
else:
    download_files(registry, files, Path(target), advance=advance)
print(told[0])
"""


def test_a_killed_client_goes_on_where_it_was(process, tmp_path):
    def client(what: str, fatal: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", CLIENT, process.address, what, tmp_path / "source",
                   tmp_path / "target", str(fatal)]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    for what in ("up", "down"):
        assert client(what, HALF).returncode == -signal.SIGKILL
        done = client(what, 2 * len(DATA))
        assert done.returncode == 0, done.stderr
        assert 0 < int(done.stdout) < len(DATA)
    assert (tmp_path / "target" / "weights").read_bytes() == DATA
