"""Sends files to the object store through the gateway and fetches them, checked by SHA-256."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from tunix_rt.blobs.blobs import hash_file
from tunix_rt.blobs.manifest import is_safe_path
from tunix_rt.rpc.status import reason_of, status_of
from tunix_rt.standalone import direct_transfers, signed_urls
from tunix_rt.standalone.connection import LONG_CALL_SECONDS
from tunix_rt.standalone.failures import CommandError
from tunix_rt.standalone.writing import HashedWriter
from tunix_rt.v1 import artifact_pb2 as artifact_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb

if TYPE_CHECKING:
    from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub

CHUNK_BYTES = 512 * 1024
SLOWEST_BYTES = 1_000_000
"""Bytes a second of the slowest transfer that may take as long as it needs."""

PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds between attempts that move nothing; one that moves bytes begins them anew."""

_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
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
    """Stores the files; `advance` hears of the bytes done, also of those that were there already.

    An upload that breaks off goes on where the server has it, in this call and in the next.
    """
    for file in files:
        _Upload(registry, directory / file.path, file, advance).run()


def download_files(
    registry: RegistryServiceStub, files: Sequence[artifact_pb.File], target: Path, *, advance: Advance
) -> None:
    """Writes the files under `target`; each is whole and has its digest, or is not there.

    Files that are there with their digest are not fetched again. What a call that broke off has fetched of
    one lies in `.{name}.{sha256}.partial`, and the next goes on from there. Raises CommandError if bytes do
    not have their digest.
    """
    for file in files:
        if not is_safe_path(file.path):
            raise CommandError("FILE_UNUSABLE", f"The path `{file.path}` would leave the folder.")
        path = target / file.path
        if path.is_file() and hash_file(path).sha256 == file.sha256:
            advance(file.size_bytes)
        else:
            _Download(registry, file, path, advance).run()


class _Transfer:
    """One file on its way: `place` is how far it is, and attempts go on from there."""

    def __init__(self, registry: RegistryServiceStub, file: artifact_pb.File, advance: Advance) -> None:
        self._registry = registry
        self._file = file
        self._advance = advance
        self._told = 0
        self._lock = threading.RLock()
        self.place = 0

    def run(self) -> None:
        """Moves the file. Raises the last error when several attempts in a row move nothing."""
        pauses = iter(PAUSES)
        while True:
            before = self.place
            try:
                self.attempt(timeout=LONG_CALL_SECONDS + self._file.size_bytes / SLOWEST_BYTES)
                return
            except (grpc.RpcError, signed_urls.StoreAnswerError) as error:
                if self.place > before:
                    pauses = iter(PAUSES)
                pause = next(pauses, None)
                if isinstance(error, signed_urls.StoreAnswerError):
                    if pause is None:
                        raise direct_transfers.failed(error) from error
                elif error.code() not in _AWAY or pause is None:
                    raise
            time.sleep(pause)

    def attempt(self, *, timeout: float) -> None:
        """Moves what is missing."""
        raise NotImplementedError

    def reach(self, place: int) -> None:
        """Notes how far the transfer is; what moves a second time is not told again.

        The thread of an attempt that has failed may still call it.
        """
        with self._lock:
            self.place = place
            if place > self._told:
                news, self._told = place - self._told, place
                self._advance(news)

    def _move(self, size_bytes: int) -> None:
        with self._lock:
            self.reach(self.place + size_bytes)


class _Upload(_Transfer):
    def __init__(
        self, registry: RegistryServiceStub, path: Path, file: artifact_pb.File, advance: Advance
    ) -> None:
        super().__init__(registry, file, advance)
        self._path = path

    def attempt(self, *, timeout: float) -> None:
        """Sends the bytes that are not there: the direct way if it is offered, or in a stream."""
        direct = direct_transfers.wanted(self._file.size_bytes)
        upload = direct_transfers.start(self._registry, self._file) if direct else None
        if upload is None:
            self._stream(timeout)
        elif upload.upload_id:
            self.reach(sum(part.size_bytes for part in upload.parts if part.stored))
            direct_transfers.send(
                self._registry, upload, self._path, self._file, advance=self._move, timeout=timeout
            )
        self.reach(self._file.size_bytes)

    def _stream(self, timeout: float) -> None:
        begun: queue.SimpleQueue[int] = queue.SimpleQueue()
        start = 0
        try:
            responses = self._registry.UploadBlob(self._requests(begun, timeout), timeout=timeout)
            committed = start = next(responses).committed
            begun.put(start)
            for response in responses:
                committed = response.committed
        except grpc.RpcError as error:
            begun.put(self._file.size_bytes)
            if start and reason_of(status_of(error)) == "BLOB_CORRUPT":
                self._stream(timeout)  # what an earlier upload left was damaged, and is gone
                return
            raise
        if committed != self._file.size_bytes:
            text = f"Only {committed} bytes of {self._file.path} were stored; try again."
            raise CommandError("UPLOAD_INCOMPLETE", text)

    def _requests(
        self, begun: queue.SimpleQueue[int], timeout: float
    ) -> Iterator[registry_pb.UploadBlobRequest]:
        file = self._file
        yield registry_pb.UploadBlobRequest(sha256=file.sha256, size_bytes=file.size_bytes)
        place = begun.get(timeout=timeout)
        self.reach(place)
        if place >= file.size_bytes:
            return
        with self._path.open("rb") as reader:
            reader.seek(place)
            while chunk := reader.read(CHUNK_BYTES):
                yield registry_pb.UploadBlobRequest(data=chunk, offset=place)
                place += len(chunk)
                self.reach(place)


class _Download(_Transfer):
    def __init__(
        self, registry: RegistryServiceStub, file: artifact_pb.File, path: Path, advance: Advance
    ) -> None:
        super().__init__(registry, file, advance)
        self._path = path
        self._partial = path.with_name(f".{path.name}.{file.sha256}.partial")

    def attempt(self, *, timeout: float) -> None:
        """Fetches the bytes that are not there, and gives the file its name when it has its digest."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with HashedWriter(self._partial, limit=self._file.size_bytes) as writer:
            start = writer.place
            self.reach(start)
            self._fetch(start, writer.write, timeout)
            found = writer.digest()
        if found == self._file.sha256:
            self._partial.replace(self._path)
            return
        self._partial.unlink()
        if not start:
            text = f"The bytes of {self._file.path} have SHA-256 {found}, not {self._file.sha256}."
            raise CommandError("BLOB_CORRUPT", f"{text} None are kept.")
        self.attempt(timeout=timeout)  # what was there may have been damaged: fetch it all

    def _fetch(self, start: int, write: Callable[[bytes], None], timeout: float) -> None:
        def take(data: bytes) -> None:
            write(data)
            self._move(len(data))

        if start == self._file.size_bytes:
            return
        direct = direct_transfers.wanted(self._file.size_bytes)
        if url := direct_transfers.sign(self._registry, self._file.sha256) if direct else "":
            signed_urls.get(url, start, self._file.size_bytes, write=take)
            return
        request = registry_pb.ReadBlobRequest(sha256=self._file.sha256, offset=start)
        for response in self._registry.ReadBlob(request, timeout=timeout):
            take(response.data)
