"""Moves the files of an artifact between a directory and the object store."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from tunix_rt.blobs.blobs import Blobs, fetch_file, store_file
from tunix_rt.blobs.manifest import is_safe_path
from tunix_rt.jobs.remote import in_store
from tunix_rt.v1.artifact_pb2 import File


async def fetch_files(blobs: Blobs, files: Iterable[File], directory: Path) -> Path:
    """Fetches files into a directory, whole or not at all; one that is there is left as it is.

    Every file is checked against its SHA-256. Raises Unavailable if the object
    store does not answer, FailedPrecondition for missing or corrupt bytes.
    """
    if not directory.is_dir():
        await in_store(_fetch_directory, blobs, list(files), directory)
    return directory


async def store_files(blobs: Blobs, directory: Path) -> list[File]:
    """Stores every file of a directory and returns them by path; stored ones are not sent again.

    Raises Unavailable if the object store does not answer.
    """
    return await in_store(_store_directory, blobs, directory)


def _store_directory(blobs: Blobs, directory: Path) -> list[File]:
    files = []
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        blob = store_file(blobs, path)
        name = path.relative_to(directory).as_posix()
        files.append(File(path=name, sha256=blob.sha256, size_bytes=blob.size_bytes))
    return sorted(files, key=lambda file: file.path)


def _fetch_directory(blobs: Blobs, files: list[File], directory: Path) -> None:
    partial = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        for file in files:
            if not is_safe_path(file.path):
                raise ValueError(f"`{file.path[:200]}` is no path inside an artifact")
            target = partial / file.path
            fetch_file(blobs, file.sha256, target)
            _sync(target)
        _rename(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():  # another fetch of the same files may have been first
            raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
