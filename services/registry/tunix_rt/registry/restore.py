"""Brings a backup into an empty database and an object store, whole or not at all."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import BinaryIO

from tunix_rt.blobs.blobs import Blob, Blobs
from tunix_rt.registry import stored_files
from tunix_rt.registry.archive import ArchiveError, Header, Manifest, Readable
from tunix_rt.registry.archive_reading import Reader
from tunix_rt.registry.database import Database, Transaction, known_migrations
from tunix_rt.rpc.errors import FailedPrecondition, Reason

_READ_BYTES = 1024 * 1024
_REMEDY = "Restore into an empty database."


async def restore(database: Database, blobs: Blobs, file: BinaryIO) -> Manifest:
    """Restores a backup from a file that can be read again; the database was opened without migrating it.

    All digests are checked first. Stored files come before rows, and all rows by one commit, so that what is
    cut short leaves an empty database and can be repeated. A backup of an older schema is brought up to
    this version's after its rows are in. Raises FailedPrecondition, reason BACKUP_INVALID, SCHEMA_MISMATCH or
    TARGET_NOT_EMPTY, before anything is changed.
    """
    header, manifest = _checked(file)
    async with database.transaction() as tx:
        await _check_target(tx, header)
    file.seek(0)
    for name, data in Reader(file).entries():
        _store(blobs, manifest, name, data)
    file.seek(0)
    async with database.transaction() as tx:
        if await _check_target(tx, header) is None:
            await tx.migrate(header.migrations)
        await _copy_rows(tx, Reader(file))
        await _set_sequences(tx, header)
        await tx.migrate()
    return manifest


def _checked(file: BinaryIO) -> tuple[Header, Manifest]:
    """What stands around a backup that is whole."""
    try:
        reader = Reader(file)
        _check_version(reader.header)
        for _ in reader.entries():
            pass
    except ArchiveError as error:
        raise FailedPrecondition(
            Reason.BACKUP_INVALID, f"The backup cannot be used: {error}. Restore another one."
        ) from error
    assert reader.manifest is not None
    return reader.header, reader.manifest


def _check_version(header: Header) -> None:
    if unknown := set(header.migrations) - known_migrations():
        raise FailedPrecondition(
            Reason.SCHEMA_MISMATCH,
            f"The backup was made by tunix-rt {header.version} and has migration {max(unknown)}, which this"
            " version does not know. Restore it with that version or a later one.",
            {"backup": max(header.migrations), "version": max(known_migrations())},
        )


async def _check_target(tx: Transaction, header: Header) -> tuple[int, ...] | None:
    """The migrations that the database has; None if it has no tables. Raises FailedPrecondition."""
    rows = await tx.all(
        "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p') ORDER BY 1"
    )
    tables = [row["name"] for row in rows if row["name"] != "migrations"]
    for table in tables:
        if await tx.one(f'SELECT 1 AS one FROM "{table}" LIMIT 1'):
            raise FailedPrecondition(
                Reason.TARGET_NOT_EMPTY, f"The table `{table}` has rows. {_REMEDY}", {"table": table}
            )
    if not rows:
        return None
    applied: tuple[int, ...] = ()
    if len(tables) < len(rows):
        found = await tx.all("SELECT number FROM migrations ORDER BY 1")
        applied = tuple(row["number"] for row in found)
    if set(applied) != set(header.migrations):
        raise FailedPrecondition(
            Reason.SCHEMA_MISMATCH,
            f"The database has the schema of migration {max(applied, default=0)}, the backup that of"
            f" {max(header.migrations)}. Restore into a database without tables; the rows are brought to this"
            " version there.",
            {"database": max(applied, default=0), "backup": max(header.migrations)},
        )
    return applied


def _store(blobs: Blobs, manifest: Manifest, name: str, data: Readable) -> None:
    """Stores a file of the backup, unless it is stored or its bytes were damaged."""
    kind, _, digest = name.partition("/")
    if kind != "blobs" or digest in manifest.damaged:
        return
    with stored_files.translated():
        if blobs.stat(digest):
            blobs.renew(digest)
            return
        with tempfile.TemporaryDirectory(prefix="tunix-rt-restore-") as folder:
            path = Path(folder) / "bytes"
            with path.open("wb") as file:
                while chunk := data.read(_READ_BYTES):
                    file.write(chunk)
                size = file.tell()
            blobs.put_file(path, Blob(digest, size))


async def _copy_rows(tx: Transaction, reader: Reader) -> None:
    """Copies the rows of all tables; they stand in the backup in an order that references allow."""
    for table, entries in itertools.groupby(reader.entries(), lambda entry: _table(entry[0])):
        if table:
            names = ", ".join(f'"{column}"' for column in reader.header.tables[table])
            parts = (data.read() for _, data in entries)
            await tx.copy_in(f'COPY "{table}" ({names}) FROM STDIN (FORMAT binary)', parts)


def _table(name: str) -> str:
    """The table that an entry is a part of; empty for a stored file."""
    kind, _, rest = name.partition("/")
    return rest.partition("/")[0] if kind == "tables" else ""


async def _set_sequences(tx: Transaction, header: Header) -> None:
    for table, column, value, called in header.sequences:
        await tx.one(
            "SELECT setval(pg_get_serial_sequence(quote_ident(%(table)s), %(column)s),"
            " %(value)s, %(called)s)",
            table=table,
            column=column,
            value=value,
            called=called,
        )
