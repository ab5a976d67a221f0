"""`tunix-rt backup` and `restore`: everything that a registry remembers, in one file."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.blobs.open import open_blobs
from tunix_rt.registry.archive import Manifest
from tunix_rt.registry.backup import back_up
from tunix_rt.registry.database import Database
from tunix_rt.registry.restore import restore as restore_into
from tunix_rt.standalone.failures import CommandError
from tunix_rt.standalone.options import JsonOption, StateOption
from tunix_rt.standalone.output import errors, print_json
from tunix_rt.standalone.postgres import EmbeddedPostgres
from tunix_rt.standalone.state import StateDirectory
from tunix_rt.standalone.views import size_text

FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="The backup; `-` is the standard stream.")]
DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database",
        envvar="TUNIX_RT_DATABASE",
        metavar="URL",
        help="postgresql://…; else that in the state folder.",
    ),
]
BlobsOption = Annotated[
    str,
    typer.Option(
        "--blobs",
        envvar="TUNIX_RT_BLOBS",
        metavar="URL",
        help="file:///… or s3://…; else the folder in the state folder.",
    ),
]


def backup(
    file: FileArgument,
    *,
    database: DatabaseOption = "",
    blobs: BlobsOption = "",
    state: StateOption = None,
    allow_damaged: Annotated[
        bool, typer.Option("--allow-damaged", help="Leave out stored files that are missing or damaged.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write every row and stored file into FILE, as they are now; the stack may be in use."""
    place = StateDirectory.locate(state)
    with _written(file) as out, _database_url(database, place, make=False) as url:
        store = open_blobs(blobs or place.blobs.as_uri())
        manifest = asyncio.run(_back_up(url, store, out, allow_damaged=allow_damaged))
    _tell("backed up", manifest, json=json)


def restore(
    file: FileArgument,
    *,
    database: DatabaseOption = "",
    blobs: BlobsOption = "",
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Restore FILE into an empty database and a store, after its digests are checked."""
    place = StateDirectory.locate(state)
    with _readable(file) as source, _database_url(database, place, make=True) as url:
        store = open_blobs(blobs or place.blobs.as_uri())
        manifest = asyncio.run(_restore(url, store, source))
    _tell("restored", manifest, json=json)


async def _back_up(url: str, blobs: Blobs, out: BinaryIO, *, allow_damaged: bool) -> Manifest:
    database = Database(url)
    return await back_up(database, blobs, out, now=datetime.now(UTC), allow_damaged=allow_damaged)


async def _restore(url: str, blobs: Blobs, file: BinaryIO) -> Manifest:
    database = Database(url)
    await database.open(migrate=False)
    try:
        return await restore_into(database, blobs, file)
    finally:
        await database.close()


@contextmanager
def _database_url(given: str, state: StateDirectory, *, make: bool) -> Iterator[str]:
    """The database that is given, or the embedded one, which is started for the block if it does not run."""
    embedded = EmbeddedPostgres(state.postgres)
    if given:
        yield given
    elif state.held():
        yield embedded.url
    elif not make and not state.postgres.exists():
        text = f"There is no stack in {state.root}. Name one with --state, or give --database and --blobs."
        raise CommandError("STATE_MISSING", text)
    else:
        state.make()
        with state.hold():
            embedded.start()
            try:
                yield embedded.url
            finally:
                embedded.stop()


@contextmanager
def _written(name: str) -> Iterator[BinaryIO]:
    """The standard output, or a new file that is there whole or not at all. Raises CommandError."""
    if name == "-":
        if sys.stdout.isatty():
            text = "The standard output is a terminal. Name a file, or pipe the backup somewhere."
            raise CommandError("FILE_UNUSABLE", text)
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    if path.exists():
        raise CommandError("FILE_EXISTS", f"{path} exists. Name another file, or remove it.")
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _readable(name: str) -> Iterator[BinaryIO]:
    """The file; the standard input is first written to a temporary one, since a backup is read twice."""
    if name != "-":
        with Path(name).open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile(prefix="tunix-rt-restore-") as spool:
        shutil.copyfileobj(sys.stdin.buffer, spool, 1024 * 1024)
        spool.seek(0)
        yield spool


def _tell(what: str, manifest: Manifest, *, json: bool) -> None:
    """Says on the standard error what was done; the standard output may carry the backup."""
    rows = sum(total.rows for total in manifest.tables.values())
    if json:
        values: dict[str, object] = {
            "rows": {table: total.rows for table, total in manifest.tables.items()},
            "blob_count": manifest.blob_count,
            "size_bytes": manifest.blob_bytes,
            "damaged": list(manifest.damaged),
        }
        print_json(values)
        return
    files = f"{manifest.blob_count} stored files ({size_text(manifest.blob_bytes)})"
    errors.print(f"{rows} rows of {len(manifest.tables)} tables and {files} are {what}.")
    if manifest.damaged:
        errors.print(f"{len(manifest.damaged)} stored files were missing or damaged and are left out:")
        for digest in manifest.damaged:
            errors.print(f"  {digest}", markup=False)
