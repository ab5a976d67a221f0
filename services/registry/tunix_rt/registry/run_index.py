"""The rows by which runs are found: labels, parameters, and the text that is searched."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunix_rt.jobs.parameters import Value, spec_values, value_text
from tunix_rt.v1 import job_service_pb2, run_pb2

if TYPE_CHECKING:
    from tunix_rt.registry.database import Transaction

_FILL_IN_ROWS = 500
_DIGEST_BYTES = 16


def digest(text: str) -> bytes:
    """What stands for a text of any length and any characters in an index."""
    return hashlib.sha256(text.encode()).digest()[:_DIGEST_BYTES]


def search_text(name: str, description: str) -> str:
    """What the text of a filter is looked for in; PostgreSQL's texts hold no NUL."""
    return f"{name}\n{description}".casefold().replace("\0", "\n")


async def insert(tx: Transaction, number: int, spec: run_pb2.RunSpec, labels: Mapping[str, str]) -> None:
    """Writes the rows of a new run."""
    await set_labels(tx, number, labels)
    rows = [(path, *_columns(value)) for path, value in sorted(spec_values(spec).items())]
    await tx.execute(
        "INSERT INTO run_parameters (run, path, number, text_digest) SELECT %(run)s, * FROM"
        " unnest(%(paths)s::text[], %(numbers)s::float8[], %(digests)b::bytea[])",
        run=number,
        paths=[row[0] for row in rows],
        numbers=[row[1] for row in rows],
        digests=[row[2] for row in rows],
    )


async def set_labels(tx: Transaction, number: int, labels: Mapping[str, str]) -> None:
    """Replaces the labels of a run."""
    await tx.execute("DELETE FROM run_labels WHERE run = %(run)s", run=number)
    if not labels:
        return
    await tx.execute(
        "INSERT INTO run_labels (run, key_digest, text_digest) SELECT %(run)s, * FROM"
        " unnest(%(keys)b::bytea[], %(texts)b::bytea[])",
        run=number,
        keys=[digest(key) for key in labels],
        texts=[digest(value) for value in labels.values()],
    )


async def fill_in(tx: Transaction) -> None:
    """Writes the rows of runs that are older than these tables."""
    after = -1
    while rows := await tx.all(
        "SELECT number, name, spec, description, labels FROM runs JOIN jobs USING (name)"
        " WHERE number > %(after)s ORDER BY number LIMIT %(limit)s",
        after=after,
        limit=_FILL_IN_ROWS,
    ):
        for row in rows:
            spec = run_pb2.RunSpec.FromString(row["spec"])
            await tx.execute(
                "UPDATE runs SET model = %(model)s, search_text = %(text)s WHERE number = %(number)s",
                model=spec.model,
                text=search_text(row["name"], row["description"].decode()),
                number=row["number"],
            )
            await insert(tx, row["number"], spec, job_service_pb2.Job.FromString(row["labels"]).labels)
        after = rows[-1]["number"]


def _columns(value: Value) -> tuple[float | None, bytes | None]:
    number = as_number(value)
    return (number, None) if number is not None else (None, digest(value_text(value)))


def as_number(value: Value) -> float | None:
    """The number that a value is ordered by; None for texts, truth values and NaN."""
    if isinstance(value, bool | str) or math.isnan(value):
        return None
    return float(value)
