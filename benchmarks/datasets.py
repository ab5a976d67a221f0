"""Measures the import of traces and its parts: `python benchmarks/datasets.py [--traces 100000]`.

Starts embedded PostgreSQL (fsync on) and one registry as a process of its own. The floors are the same rows
put into a table like `traces`, indexes included, without checks: by COPY, and by the INSERT of 500 rows that
the registry uses.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.json
import pyarrow.parquet
from registry import postgres, registry

from tunix_rt.standalone.connection import Connection
from tunix_rt.standalone.dataset_export import export_parquet
from tunix_rt.standalone.dataset_sources import from_file
from tunix_rt.standalone.dataset_upload import DatasetPlan, upload_dataset
from tunix_rt.traces.trace import Trace, canonical_json, content_key
from tunix_rt.v1 import dataset_pb2, registry_service_pb2

INSERT = (
    "INSERT INTO floor SELECT 'datasets/floor', %s + n - 1, a, b, c, d FROM unnest(%s::text[], %b::bytea[],"
    " %s::text[], %b::bytea[]) WITH ORDINALITY AS t (a, b, c, d, n) ON CONFLICT DO NOTHING"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=100_000)
    count = parser.parse_args().traces
    with tempfile.TemporaryDirectory(prefix="tunix-rt-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_sources(folder, count)
        with postgres(folder) as database, registry(database, folder) as address:
            measure(Connection(address), database, folder, count)


def measure(connection: Connection, database: str, folder: Path, count: int) -> None:
    def timed(label: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        made = work()
        seconds = time.perf_counter() - start
        print(f"{label:40} {seconds:7.2f} s {count / seconds:10,.0f} traces/s")
        return made

    def stored(identifier: str, traces: Sequence[Trace]) -> dataset_pb2.Dataset:
        return upload_dataset(connection, DatasetPlan(identifier, dataset_pb2.Dataset(), traces))

    for suffix in ("jsonl", "parquet"):
        _, found = timed(f"{suffix}: read and check", lambda s=suffix: from_file(folder / f"traces.{s}"))
        made = timed(f"{suffix}: store and seal", lambda s=suffix, f=found: stored(s, f.traces))
    request = registry_service_pb2.GetDatasetStatisticsRequest(name=made.name)
    timed("statistics", lambda: connection.registry.GetDatasetStatistics(request))
    target = folder / "out.parquet"
    timed(
        "export to Parquet",
        lambda: export_parquet(connection, made, target, split="", advance=lambda _: None),
    )
    floors(database, found.traces, timed)


def floors(database: str, traces: Sequence[Trace], timed: Callable[[str, Callable[[], Any]], Any]) -> None:
    rows = [(each.id, content_key(each), "train", canonical_json(each, "train")) for each in traces]
    with psycopg.connect(database, autocommit=True) as session:
        session.execute("CREATE TABLE floor (LIKE traces INCLUDING ALL)")

        def copy() -> None:
            with session.cursor().copy("COPY floor FROM STDIN (FORMAT BINARY)") as writer:
                writer.set_types(["text", "int8", "text", "bytea", "text", "bytea"])
                for number, row in enumerate(rows):
                    writer.write_row(("datasets/floor", number, *row))

        def insert() -> None:
            for first in range(0, len(rows), 500):
                session.execute(INSERT, [first, *map(list, zip(*rows[first : first + 500], strict=True))])

        timed("floor: COPY", copy)
        session.execute("TRUNCATE floor")
        timed("floor: INSERT of 500 rows", insert)


def write_sources(folder: Path, count: int) -> None:
    draw = random.Random(1)
    with (folder / "traces.jsonl").open("w") as file:
        for number in range(count):
            other, price = draw.randrange(10**6), draw.randrange(100)
            total = number + other
            record = {
                "id": f"t{number}",
                "prompt": f"A shop sells {number} apples on Monday and {other} on Tuesday; each costs {price}"
                " cents. How much is it?",
                "steps": [
                    {"i": 0, "type": "compute", "content": f"{number} + {other} = {total}"},
                    {"i": 1, "type": "compute", "content": f"{total} * {price} = {total * price}"},
                ],
                "final_answer": str(total * price),
                "answer_type": "integer",
                "meta": {"family": "shop", "level": number % 5},
            }
            file.write(json.dumps(record) + "\n")
    table = pyarrow.json.read_json(folder / "traces.jsonl")
    pyarrow.parquet.write_table(table, folder / "traces.parquet")


if __name__ == "__main__":
    main()
