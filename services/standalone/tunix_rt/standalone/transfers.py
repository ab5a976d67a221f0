"""Sends files to the object store through the gateway and fetches them, checked by SHA-256."""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunix_rt.blobs.blobs import hash_file
from tunix_rt.blobs.manifest import is_safe_path
from tunix_rt.standalone.connection import LONG_CALL_SECONDS
from tunix_rt.standalone.failures import CommandError
from tunix_rt.v1 import artifact_pb2 as artifact_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb

if TYPE_CHECKING:
    from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub

CHUNK_BYTES = 1024 * 1024
Advance = Callable[[int], None]


def describe_files(directory: Path) -> list[artifact_pb.File]:
    """The files under a directory with digest and size, ordered by path; hidden ones are left out."""
    found = []
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            blob = hash_file(path)
            found.append(
                artifact_pb.File(path=relative.as_posix(), sha256=blob.sha256, size_bytes=blob.size_bytes)
            )
    return found


def upload_files(
    registry: RegistryServiceStub, directory: Path, files: Sequence[artifact_pb.File], *, advance: Advance
) -> None:
    """Stores the files; `advance` hears of the bytes done, also of those that were stored already."""
    for file in files:
        _upload(registry, directory / file.path, file, advance)


def download_files(
    registry: RegistryServiceStub, files: Sequence[artifact_pb.File], target: Path, *, advance: Advance
) -> None:
    """Writes the files under `target`; each is whole and has its digest, or is not there.

    Files that are there with their digest are not fetched again. Raises CommandError
    if bytes do not have their digest.
    """
    for file in files:
        if not is_safe_path(file.path):
            raise CommandError("FILE_UNUSABLE", f"The path `{file.path}` would leave the folder.")
        path = target / file.path
        if path.is_file() and hash_file(path).sha256 == file.sha256:
            advance(file.size_bytes)
        else:
            _download(registry, file, path, advance)


def _upload(registry: RegistryServiceStub, path: Path, file: artifact_pb.File, advance: Advance) -> None:
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    responses = registry.UploadBlob(_upload_requests(path, file, answers, advance), timeout=LONG_CALL_SECONDS)
    first = True
    committed = 0
    for response in responses:
        committed = response.committed
        if first:
            answers.put(committed < file.size_bytes)
            first = False
    if committed != file.size_bytes:
        raise CommandError(
            "UPLOAD_INCOMPLETE", f"Only {committed} bytes of {file.path} were stored; try again."
        )


def _upload_requests(
    path: Path, file: artifact_pb.File, answers: queue.SimpleQueue[bool], advance: Advance
) -> Iterator[registry_pb.UploadBlobRequest]:
    yield registry_pb.UploadBlobRequest(sha256=file.sha256, size_bytes=file.size_bytes)
    if not answers.get(timeout=LONG_CALL_SECONDS):
        advance(file.size_bytes)
        return
    with path.open("rb") as reader:
        while chunk := reader.read(CHUNK_BYTES):
            yield registry_pb.UploadBlobRequest(data=chunk)
            advance(len(chunk))


def _download(registry: RegistryServiceStub, file: artifact_pb.File, path: Path, advance: Advance) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as writer:
            request = registry_pb.ReadBlobRequest(sha256=file.sha256)
            for response in registry.ReadBlob(request, timeout=LONG_CALL_SECONDS):
                writer.write(response.data)
                digest.update(response.data)
                advance(len(response.data))
        if digest.hexdigest() != file.sha256:
            found = digest.hexdigest()
            message = f"The bytes of {file.path} have SHA-256 {found}, not {file.sha256}; none are kept."
            raise CommandError("BLOB_CORRUPT", message)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
