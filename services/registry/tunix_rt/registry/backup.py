"""Writes all rows and stored files into one stream, as they are at one moment, while the stack is in use."""

from __future__ import annotations

from datetime import datetime
from graphlib import TopologicalSorter
from importlib.metadata import version
from typing import BinaryIO

from tunix_rt.blobs.blobs import BlobCorruptError, BlobMissingError, Blobs, BlobsUnavailableError
from tunix_rt.registry import garbage
from tunix_rt.registry.archive import PART_BYTES, Chunks, Header, Manifest, Writer
from tunix_rt.registry.database import Database, Transaction, known_migrations
from tunix_rt.rpc.errors import FailedPrecondition, Reason, Unavailable
from tunix_rt.v1 import artifact_pb2, model_pb2
from tunix_rt.v1.dataset_pb2 import Dataset
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec


async def back_up(
    database: Database, blobs: Blobs, out: BinaryIO, *, now: datetime, allow_damaged: bool = False
) -> Manifest:
    """Writes a backup and returns its manifest; what is written before an error is no backup.

    Raises FailedPrecondition, reason BLOB_MISSING or BLOB_CORRUPT, for the first stored file that is named
    but cannot be read, unless damaged ones are allowed: then they are listed and left out.
    """
    async with database.snapshot() as tx:
        header = await _header(tx, now)
        writer = Writer(out, header)
        for table, columns in header.tables.items():
            writer.end_table(table, await _copy_table(tx, writer, table, columns))
        required = await _required_digests(tx)
        for digest in sorted(await garbage.named_digests(tx) | required):
            _copy_blob(blobs, writer, digest, required=digest in required, allow_damaged=allow_damaged)
        return writer.finish()


async def _header(tx: Transaction, now: datetime) -> Header:
    known = await tx.one("SELECT to_regclass('public.migrations') AS name")
    assert known is not None
    applied = await tx.all("SELECT number FROM migrations ORDER BY 1") if known["name"] else []
    migrations = tuple(row["number"] for row in applied)
    if set(migrations) != known_migrations():
        newest = max(migrations, default=0)
        raise FailedPrecondition(
            Reason.SCHEMA_MISMATCH,
            f"The database has the schema of migration {newest}, this version that of"
            f" {max(known_migrations())}. Use the version of its registry, or start this one's on it.",
            {"database": newest, "version": max(known_migrations())},
        )
    server = await tx.one("SELECT version() AS text")
    assert server is not None
    tables = {table: await _columns(tx, table) for table in await _tables(tx)}
    return Header(
        version=version("tunix-rt"),
        server=str(server["text"]),
        create_time=now.isoformat(),
        migrations=migrations,
        tables=tables,
        sequences=await _sequences(tx),
    )


async def _tables(tx: Transaction) -> list[str]:
    """All tables but that of the migrations, each after those that it refers to."""
    rows = await tx.all(
        "SELECT c.relname AS name, coalesce(array_agg(t.relname::text) FILTER (WHERE t.oid <> c.oid), '{}')"
        " AS referred FROM pg_class c"
        " LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f'"
        " LEFT JOIN pg_class t ON t.oid = k.confrelid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'migrations'"
        " GROUP BY c.oid, c.relname ORDER BY c.relname"
    )
    return list(TopologicalSorter({row["name"]: row["referred"] for row in rows}).static_order())


async def _columns(tx: Transaction, table: str) -> tuple[str, ...]:
    rows = await tx.all(
        "SELECT column_name AS name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND table_name = %(table)s AND is_generated = 'NEVER' ORDER BY ordinal_position",
        table=table,
    )
    return tuple(row["name"] for row in rows)


async def _sequences(tx: Transaction) -> tuple[tuple[str, str, int, bool], ...]:
    """The sequences that columns own; they are never behind the rows of the snapshot."""
    rows = await tx.all(
        "SELECT c.relname AS tab, a.attname AS col, pg_get_serial_sequence(quote_ident(c.relname), a.attname)"
        " AS name FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0"
        " AND NOT a.attisdropped AND pg_get_serial_sequence(quote_ident(c.relname), a.attname) IS NOT NULL"
        " ORDER BY 1, 2"
    )
    found = []
    for row in rows:
        value = await tx.one(f"SELECT last_value, is_called FROM {row['name']}")
        assert value is not None
        found.append((row["tab"], row["col"], value["last_value"], value["is_called"]))
    return tuple(found)


async def _copy_table(tx: Transaction, writer: Writer, table: str, columns: tuple[str, ...]) -> int:
    """Copies the rows of a table in parts, and returns their number."""
    names = ", ".join(f'"{column}"' for column in columns)
    part = bytearray()
    async with tx.copy_out(f'COPY "{table}" ({names}) TO STDOUT (FORMAT binary)') as copy:
        async for data in copy:
            part += data
            if len(part) >= PART_BYTES:
                writer.part(table, bytes(part))
                part.clear()
        rows = copy.rows
    writer.part(table, bytes(part))
    return rows


async def _required_digests(tx: Transaction) -> set[str]:
    """The SHA-256 of the files of artifacts, model versions, sealed datasets and imported predictions."""
    found: set[str] = set()
    for table, message in (("artifacts", artifact_pb2.Artifact), ("model_versions", model_pb2.ModelVersion)):
        for row in await tx.all(f"SELECT document FROM {table}"):
            found.update(file.sha256 for file in message.FromString(row["document"]).files)
    for row in await tx.all("SELECT document FROM datasets WHERE state = %(sealed)s", sealed=Dataset.SEALED):
        found.add(Dataset.FromString(row["document"]).sha256)
    for row in await tx.all("SELECT spec FROM jobs WHERE kind = 'evaluation'"):
        found.add(EvaluationSpec.FromString(row["spec"]).predictions)
    return found - {""}


def _copy_blob(blobs: Blobs, writer: Writer, digest: str, *, required: bool, allow_damaged: bool) -> None:
    """Copies a stored file; one that nothing requires may be a digest of something else, and missing."""
    try:
        stored = blobs.stat(digest)
        if stored is None:
            if required:
                raise BlobMissingError(digest)
            return
        writer.blob(digest, stored.size_bytes, Chunks(blobs.read(digest)))
    except (BlobMissingError, BlobCorruptError) as error:
        if not allow_damaged:
            raise _damaged(error) from error
        writer.damaged(digest)
    except BlobsUnavailableError as error:
        text = "The object store does not answer, so there is no whole backup. Make it again."
        raise Unavailable(Reason.BLOBS_UNAVAILABLE, text) from error


def _damaged(error: BlobMissingError | BlobCorruptError) -> FailedPrecondition:
    corrupt = isinstance(error, BlobCorruptError)
    return FailedPrecondition(
        Reason.BLOB_CORRUPT if corrupt else Reason.BLOB_MISSING,
        f"The stored file {error.sha256} is {'damaged' if corrupt else 'missing'}, so there is no whole"
        " backup. Upload it again, delete what names it, or leave such files out with --allow-damaged.",
        {"sha256": error.sha256},
    )
