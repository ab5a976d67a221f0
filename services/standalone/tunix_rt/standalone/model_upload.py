"""Creates a model version from a directory."""

from __future__ import annotations

import uuid
from pathlib import Path

from tunix_rt.standalone.connection import LONG_CALL_SECONDS, Connection
from tunix_rt.standalone.structs import struct_of
from tunix_rt.standalone.transfers import Advance, describe_files, upload_files
from tunix_rt.v1 import model_pb2 as model_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb

_NAMESPACE = uuid.UUID("3d0c7d0e-52a8-4d2e-9d0b-5a3b7f0c8c11")


def upload_model(
    connection: Connection,
    directory: Path,
    parent: str,
    *,
    version_id: str = "",
    provenance: dict[str, object],
    description: str = "",
    advance: Advance = lambda _: None,
) -> model_pb.ModelVersion:
    """Stores the files and creates the version; the same content again gives the same version."""
    version = model_pb.ModelVersion(files=describe_files(directory), description=description)
    version.provenance.CopyFrom(struct_of({key: value for key, value in provenance.items() if value != ""}))
    upload_files(connection.registry, directory, list(version.files), advance=advance)
    request = registry_pb.CreateModelVersionRequest(
        parent=parent, version_id=version_id, model_version=version
    )
    request.request_id = str(uuid.uuid5(_NAMESPACE, request.SerializeToString(deterministic=True).hex()))
    return connection.registry.CreateModelVersion(request, timeout=LONG_CALL_SECONDS)


def directory_bytes(directory: Path) -> int:
    """The sum of the file sizes under a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
