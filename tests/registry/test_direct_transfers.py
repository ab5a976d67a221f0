"""Transfers by signed URLs, on a real S3 server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import urllib.error
import urllib.request
from datetime import timedelta

import grpc
import pytest

from tunix_rt.blobs.blobs import Blob
from tunix_rt.blobs.open import open_blobs
from tunix_rt.registry.server import start
from tunix_rt.registry.settings import Settings
from tunix_rt.rpc.channel import open_blocking_channel, open_channel
from tunix_rt.standalone import direct_transfers
from tunix_rt.standalone.failures import CommandError
from tunix_rt.standalone.transfers import describe_files, download_files, upload_files
from tunix_rt.v1 import registry_service_pb2 as pb
from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub

MIB = 2**20


class Direct:
    """A registry on S3 whose clients reach the store, a file, and stubs for it."""

    def __init__(self, address, stub, url):
        self.address, self.registry, self.blobs = address, stub, open_blobs(url)
        self.data = os.urandom(17 * MIB)
        self.sha256 = hashlib.sha256(self.data).hexdigest()
        self.file = {"sha256": self.sha256, "size_bytes": len(self.data)}

    async def start(self):
        return await self.registry.StartDirectUpload(pb.StartDirectUploadRequest(**self.file))

    async def complete(self, upload):
        request = pb.CompleteDirectUploadRequest(**self.file, upload_id=upload.upload_id)
        return await self.registry.CompleteDirectUpload(request)

    def put(self, part, data=None):
        body = b"" if data == b"" else (data or self.data)[part.offset : part.offset + part.size_bytes]
        urllib.request.urlopen(urllib.request.Request(part.url, data=body, method="PUT")).close()


@pytest.fixture
async def direct(make_database, s3_url):
    url = s3_url + "&public=http://" + s3_url.split("@")[1].split("/")[0]
    server = await start(Settings(database=make_database(), blobs=url, listen="127.0.0.1:0"))
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        yield Direct(f"127.0.0.1:{server.port}", RegistryServiceStub(channel), url)
    await server.stop(0)


async def test_parts_become_a_file_when_the_upload_is_complete(direct):
    upload = await direct.start()
    assert [(part.number, part.offset, part.size_bytes) for part in upload.parts] == [
        (1, 0, 8 * MIB),
        (2, 8 * MIB, 8 * MIB),
        (3, 16 * MIB, MIB),
    ]
    for part in upload.parts:
        await asyncio.to_thread(direct.put, part)
    assert direct.blobs.stat(direct.sha256) is None
    assert (await direct.complete(upload)).committed == len(direct.data)
    chunks = direct.registry.ReadBlob(pb.ReadBlobRequest(sha256=direct.sha256))
    assert b"".join([chunk.data async for chunk in chunks]) == direct.data
    signed = await direct.registry.SignDownload(pb.SignDownloadRequest(sha256=direct.sha256))
    assert await asyncio.to_thread(lambda: urllib.request.urlopen(signed.url).read()) == direct.data


async def test_an_upload_that_broke_off_goes_on_with_the_parts_that_came(direct):
    first = await direct.start()
    await asyncio.to_thread(direct.put, first.parts[1])
    again = await direct.start()
    assert again.upload_id == first.upload_id
    assert [part.stored for part in again.parts] == [False, True, False]


async def test_missing_parts_are_named(direct, registry):
    upload = await direct.start()
    await asyncio.to_thread(direct.put, upload.parts[0])
    failure = await registry.failure_of(direct.complete(upload))
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PARTS_MISSING")
    assert "parts 2, 3" in failure.message


async def test_bytes_with_another_digest_never_become_readable(direct, registry):
    upload = await direct.start()
    for part in upload.parts:
        await asyncio.to_thread(direct.put, part, bytes(len(direct.data)))
    failure = await registry.failure_of(direct.complete(upload))
    assert (failure.reason, list(failure.fields)) == ("BLOB_CORRUPT", ["sha256"])
    assert direct.blobs.stat(direct.sha256) is None
    failure = await registry.failure_of(direct.complete(upload))
    assert failure.code == grpc.StatusCode.NOT_FOUND


async def test_a_completed_upload_may_be_completed_again(direct):
    upload = await direct.start()
    for part in upload.parts:
        await asyncio.to_thread(direct.put, part)
    await direct.complete(upload)
    assert (await direct.complete(upload)).committed == len(direct.data)
    assert await direct.start() == pb.DirectUpload()


async def test_a_completion_that_broke_off_is_finished_by_the_next(direct):
    upload = await direct.start()
    for part in upload.parts:
        await asyncio.to_thread(direct.put, part)
    blob = Blob(direct.sha256, len(direct.data))
    direct.blobs.direct._join(f"uploads/{direct.sha256}", blob, upload.upload_id)
    assert (await direct.complete(upload)).committed == len(direct.data)


async def test_uploads_that_nobody_completes_are_swept(direct):
    upload = await direct.start()
    direct.blobs.direct.sweep(timedelta(0))
    assert (await direct.start()).upload_id != upload.upload_id


async def test_an_aborted_upload_takes_no_parts(direct):
    upload = await direct.start()
    request = pb.AbortDirectUploadRequest(sha256=direct.sha256, upload_id=upload.upload_id)
    await direct.registry.AbortDirectUpload(request)
    await direct.registry.AbortDirectUpload(request)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        await asyncio.to_thread(direct.put, upload.parts[0], b"")
    assert (await direct.start()).upload_id != upload.upload_id


async def test_a_url_is_good_for_its_part_only(direct):
    upload = await direct.start()
    part = upload.parts[0]
    part.url = part.url.replace("partNumber=1", "partNumber=2")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        await asyncio.to_thread(direct.put, part, b"")


async def test_bad_fields_are_named_together(direct, registry):
    request = pb.CompleteDirectUploadRequest(sha256="../x", size_bytes=-1)
    failure = await registry.failure_of(direct.registry.CompleteDirectUpload(request))
    assert set(failure.fields) == {"sha256", "size_bytes", "upload_id"}


async def test_a_folder_has_no_direct_way(registry):
    request = pb.StartDirectUploadRequest(sha256="0" * 64, size_bytes=5)
    failure = await registry.failure_of(registry.registry.StartDirectUpload(request))
    assert (failure.code, failure.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "DIRECT_TRANSFER_UNAVAILABLE",
    )
    assert "UploadBlob" in failure.message


async def test_the_command_line_takes_the_direct_way_for_large_files(direct, tmp_path, monkeypatch):
    monkeypatch.setattr(direct_transfers, "DIRECT_BYTES", MIB)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "weights").write_bytes(direct.data)
    upload = await direct.start()
    await asyncio.to_thread(direct.put, upload.parts[0])
    moved: dict[str, list[int]] = {"up": [], "down": []}

    def both_ways() -> None:
        with open_blocking_channel(direct.address) as channel:
            stub = RegistryServiceStub(channel)
            files = describe_files(tmp_path / "source")
            upload_files(stub, tmp_path / "source", files, advance=moved["up"].append)
            target = tmp_path / "target"
            target.mkdir()
            (target / f".weights.{direct.sha256}.partial").write_bytes(direct.data[:MIB])
            download_files(stub, files, target, advance=moved["down"].append)
            assert (target / "weights").read_bytes() == direct.data

    await asyncio.to_thread(both_ways)
    assert (moved["up"][0], sum(moved["up"])) == (8 * MIB, len(direct.data))
    assert (moved["down"][0], sum(moved["down"])) == (MIB, len(direct.data))


async def test_a_store_that_clients_cannot_reach_is_told_with_the_way_out(
    make_database, s3_url, tmp_path, monkeypatch
):
    monkeypatch.setattr(direct_transfers, "DIRECT_BYTES", MIB)
    monkeypatch.setattr("tunix_rt.standalone.transfers.PAUSES", ())
    (tmp_path / "weights").write_bytes(os.urandom(MIB))
    blobs = s3_url + "&public=http://127.0.0.1:9"
    server = await start(Settings(database=make_database(), blobs=blobs, listen="127.0.0.1:0"))

    def up() -> None:
        with open_blocking_channel(f"127.0.0.1:{server.port}") as channel:
            files = describe_files(tmp_path)
            upload_files(RegistryServiceStub(channel), tmp_path, files, advance=lambda _: None)

    with pytest.raises(CommandError, match="TUNIX_RT_DIRECT_TRANSFERS=off"):
        await asyncio.to_thread(up)
    monkeypatch.setenv("TUNIX_RT_DIRECT_TRANSFERS", "off")
    await asyncio.to_thread(up)
    await server.stop(0)
