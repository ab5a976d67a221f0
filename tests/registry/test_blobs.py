"""Uploads, reads and artifacts through the API."""

from __future__ import annotations

import hashlib

import grpc
import pytest

from tunix_rt.v1 import artifact_pb2, job_service_pb2, registry_service_pb2

DATA = bytes(range(256)) * 20_000  # 5 MB


def sha256(data):
    return hashlib.sha256(data).hexdigest()


async def upload(registry, data, *, digest=None, size=None, chunk=1 << 20):
    digest = sha256(data) if digest is None else digest

    async def messages():
        yield registry_service_pb2.UploadBlobRequest(
            sha256=digest, size_bytes=len(data) if size is None else size
        )
        for first in range(0, len(data), chunk):
            yield registry_service_pb2.UploadBlobRequest(data=data[first : first + chunk])

    return [response.committed async for response in registry.registry.UploadBlob(messages())]


async def read(registry, digest, offset=0):
    request = registry_service_pb2.ReadBlobRequest(sha256=digest, offset=offset)
    return b"".join([response.data async for response in registry.registry.ReadBlob(request)])


def stored(registry):
    return [path for path in registry.blobs.glob("sha256/*/*") if path.is_file()]


async def test_bytes_come_back_whole_and_from_an_offset(registry):
    assert await upload(registry, DATA) == [0, len(DATA)]
    assert await read(registry, sha256(DATA)) == DATA
    assert await read(registry, sha256(DATA), 4_000_001) == DATA[4_000_001:]
    assert await read(registry, sha256(DATA), len(DATA)) == b""


async def test_stored_bytes_need_not_be_sent_again(registry):
    await upload(registry, DATA)
    assert await upload(registry, DATA) == [len(DATA)]


async def test_the_empty_file_is_a_file(registry):
    assert await upload(registry, b"") == [0, 0]
    assert await read(registry, sha256(b"")) == b""


async def test_a_wrong_digest_names_both_and_stores_nothing(registry):
    failure = await registry.failure_of(upload(registry, b"abc", digest="0" * 64))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BLOB_CORRUPT")
    assert "0" * 64 in failure.fields["sha256"]
    assert sha256(b"abc") in failure.fields["sha256"]
    assert not stored(registry)


@pytest.mark.parametrize("size", [2, 4])
async def test_a_wrong_size_stores_nothing(registry, size):
    failure = await registry.failure_of(upload(registry, b"abc", size=size))
    assert list(failure.fields) == ["size_bytes"]
    assert not stored(registry)


async def test_bad_announcements_name_their_fields(registry):
    failure = await registry.failure_of(upload(registry, b"", digest="../../etc/passwd", size=-1))
    assert set(failure.fields) == {"sha256", "size_bytes"}
    failure = await registry.failure_of(upload(registry, DATA, chunk=(2 << 20) + 1))
    assert list(failure.fields) == ["data"]


async def test_reading_what_is_not_stored_fails(registry):
    failure = await registry.failure_of(read(registry, "0" * 64))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "BLOB_MISSING")
    failure = await registry.failure_of(read(registry, "../x", -1))
    assert list(failure.fields) == ["sha256"]
    await upload(registry, b"abc")
    failure = await registry.failure_of(read(registry, sha256(b"abc"), 4))
    assert list(failure.fields) == ["offset"]


async def test_bytes_that_rot_on_disk_are_never_passed_on_as_whole(registry):
    await upload(registry, b"abc")
    stored(registry)[0].write_bytes(b"abd")
    failure = await registry.failure_of(read(registry, sha256(b"abc")))
    assert failure.reason == "BLOB_CORRUPT"


async def record(registry, job, **fields):
    request = job_service_pb2.RecordArtifactRequest(
        name=job.name, attempt=job.status.attempt, artifact=artifact_pb2.Artifact(**fields)
    )
    return await registry.jobs.RecordArtifact(request)


async def test_the_same_files_are_recorded_once(registry):
    job = await registry.running()
    files = await registry.files({"b/weights": b"1", "a/state.json": b"2"})
    first = await record(registry, job, kind="checkpoint", step=10, files=files)
    assert [file.path for file in first.files] == ["a/state.json", "b/weights"]
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in first.files)
    assert (first.digest, first.size_bytes) == (sha256(lines.encode()), 2)
    assert await record(registry, job, kind="checkpoint", step=10, files=files) == first
    other = await record(registry, job, kind="checkpoint", step=20, files=files)
    assert other.name != first.name
    request = registry_service_pb2.GetArtifactRequest(name=first.name)
    assert await registry.registry.GetArtifact(request) == first
    listed = await registry.registry.ListArtifacts(
        registry_service_pb2.ListArtifactsRequest(owner=job.name, kind="checkpoint")
    )
    assert [artifact.step for artifact in listed.artifacts] == [20, 10]


async def test_artifacts_with_missing_files_or_bad_fields_are_refused(registry):
    job = await registry.running()
    missing = artifact_pb2.File(path="x", sha256="1" * 64, size_bytes=1)
    failure = await registry.failure_of(record(registry, job, kind="log", files=[missing]))
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BLOB_MISSING")
    bad = [
        artifact_pb2.File(path="../x", sha256="1" * 64),
        artifact_pb2.File(path="y", sha256="no", size_bytes=-1),
    ]
    failure = await registry.failure_of(record(registry, job, kind="poem", digest="1", files=bad))
    assert set(failure.fields) == {
        "artifact.kind",
        "artifact.digest",
        "artifact.files[0].path",
        "artifact.files[1].sha256",
        "artifact.files[1].size_bytes",
    }
    (file,) = await registry.files({"x": b"abc"})
    file.size_bytes = 7
    failure = await registry.failure_of(record(registry, job, kind="log", files=[file]))
    assert list(failure.fields) == ["artifact.files[0].size_bytes"]


async def checkpoint(registry, job, step, **contents):
    files = await registry.files({name: data.encode() for name, data in contents.items()})
    return await record(registry, job, kind="checkpoint", step=step, files=files)


async def delete(registry, job, artifact):
    request = job_service_pb2.DeleteArtifactRequest(
        name=job.name, attempt=job.status.attempt, artifact=artifact
    )
    return await registry.jobs.DeleteArtifact(request)


async def test_a_deleted_checkpoint_is_gone_with_the_bytes_that_only_it_had(registry):
    job = await registry.running()
    old = await checkpoint(registry, job, 10, state="old", weights="shared")
    await checkpoint(registry, job, 20, state="new", weights="shared")
    await delete(registry, job, old.name)
    await delete(registry, job, old.name)
    listed = await registry.registry.ListArtifacts(registry_service_pb2.ListArtifactsRequest(owner=job.name))
    assert [artifact.step for artifact in listed.artifacts] == [20]
    kept = {path.name for path in stored(registry)}
    assert sha256(b"old") not in kept
    assert {sha256(b"new"), sha256(b"shared")} <= kept


async def test_bytes_of_a_model_version_outlive_a_checkpoint_that_has_them_too(registry):
    job = await registry.running()
    model = registry.model_files()["tokenizer.json"].decode()
    old = await checkpoint(registry, job, 10, state=model)
    await delete(registry, job, old.name)
    assert sha256(model.encode()) in {path.name for path in stored(registry)}


async def test_only_the_holder_of_the_lease_deletes_its_own_checkpoints(registry):
    job = await registry.running()
    other = await registry.running()
    artifact = await checkpoint(registry, job, 10, state="mine")
    failure = await registry.failure_of(delete(registry, other, artifact.name))
    assert failure.fields == {
        "artifact": f"is `{artifact.name}`, a checkpoint of `{job.name}`; "
        f"it must be a checkpoint of `{other.name}`."
    }
    job.status.attempt = 7
    assert (await registry.failure_of(delete(registry, job, artifact.name))).reason == "LEASE_LOST"


async def test_a_final_model_is_never_deleted(registry):
    job = await registry.running()
    files = await registry.files({"model.safetensors": b"weights"})
    model = await record(registry, job, kind="model", files=files)
    assert list((await registry.failure_of(delete(registry, job, model.name))).fields) == ["artifact"]
