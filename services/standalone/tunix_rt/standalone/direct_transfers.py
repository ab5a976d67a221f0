"""Large files on the direct way to the object store and back, where the registry offers it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from tunix_rt.rpc.status import reason_of, status_of
from tunix_rt.standalone import signed_urls
from tunix_rt.standalone.failures import CommandError
from tunix_rt.v1 import registry_service_pb2 as registry_pb

if TYPE_CHECKING:
    from tunix_rt.v1.artifact_pb2 import File
    from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub

DIRECT_BYTES = 32 * 1024 * 1024
"""Files of this size and larger take the direct way."""

SWITCH = "TUNIX_RT_DIRECT_TRANSFERS"
PARTS_AT_ONCE = 4
_CALL_SECONDS = 60.0


def wanted(size_bytes: int) -> bool:
    """Whether a file is large enough, and the direct way is not switched off."""
    return size_bytes >= DIRECT_BYTES and os.environ.get(SWITCH, "on") != "off"


def start(registry: RegistryServiceStub, file: File) -> registry_pb.DirectUpload | None:
    """The parts to send; None where clients cannot reach the object store."""
    request = registry_pb.StartDirectUploadRequest(sha256=file.sha256, size_bytes=file.size_bytes)
    try:
        return registry.StartDirectUpload(request, timeout=_CALL_SECONDS)
    except grpc.RpcError as error:
        if _not_offered(error):
            return None
        raise


def send(
    registry: RegistryServiceStub,
    upload: registry_pb.DirectUpload,
    path: Path,
    file: File,
    *,
    advance: Callable[[int], None],
    timeout: float,
) -> None:
    """Sends the parts that have not come, and completes the upload. Raises StoreAnswerError."""

    def send_part(part: registry_pb.DirectUpload.Part) -> None:
        signed_urls.put(part.url, path, part.offset, part.size_bytes, advance=advance)

    with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        results = [pool.submit(send_part, part) for part in upload.parts if not part.stored]
        try:
            for result in results:
                result.result()
        finally:
            for result in results:
                result.cancel()
    request = registry_pb.CompleteDirectUploadRequest(
        sha256=file.sha256, size_bytes=file.size_bytes, upload_id=upload.upload_id
    )
    registry.CompleteDirectUpload(request, timeout=timeout)


def sign(registry: RegistryServiceStub, sha256: str) -> str:
    """The URL of a stored file; empty where clients cannot reach the object store."""
    request = registry_pb.SignDownloadRequest(sha256=sha256)
    try:
        return registry.SignDownload(request, timeout=_CALL_SECONDS).url
    except grpc.RpcError as error:
        if _not_offered(error):
            return ""
        raise


def failed(error: signed_urls.StoreAnswerError) -> CommandError:
    """What to tell of an object store that does not take or give bytes."""
    text = f"{error}. Try again, or set {SWITCH}=off to go through the gateway."
    return CommandError("DIRECT_TRANSFER_FAILED", text)


def _not_offered(error: grpc.RpcError) -> bool:
    """Whether the store is out of reach, or the registry older than the direct way."""
    reason = reason_of(status_of(error))
    return (
        reason in {"DIRECT_TRANSFER_UNAVAILABLE", "UNKNOWN_METHOD"}
        or error.code() is grpc.StatusCode.UNIMPLEMENTED
    )
