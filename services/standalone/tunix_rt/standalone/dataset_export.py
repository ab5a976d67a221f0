"""Sealed datasets written into files, and read back from the object store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, Reason
from tunix_rt.standalone.connection import CALL_SECONDS, Connection
from tunix_rt.standalone.transfers import Advance, download_files
from tunix_rt.traces.jsonl import read_canonical
from tunix_rt.traces.trace import Trace
from tunix_rt.v1 import artifact_pb2 as artifact_pb
from tunix_rt.v1 import dataset_pb2 as dataset_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb


def get_sealed(connection: Connection, name: str) -> dataset_pb.Dataset:
    """A sealed dataset. Raises FailedPrecondition, reason DATASET_NOT_SEALED."""
    request = registry_pb.GetDatasetRequest(name=name)
    dataset = connection.registry.GetDataset(request, timeout=CALL_SECONDS)
    if dataset.state != dataset_pb.Dataset.SEALED:
        text = f"Dataset `{name}` is open; only a sealed one has canonical bytes. Seal it first."
        raise FailedPrecondition(Reason.DATASET_NOT_SEALED, text, {"resource": name})
    return dataset


def read_dataset(
    connection: Connection, dataset: dataset_pb.Dataset, *, advance: Advance = lambda _: None
) -> list[tuple[Trace, str]]:
    """The traces of a sealed dataset with their splits, from bytes of the right SHA-256."""
    with _canonical_file(connection, dataset, advance) as path, path.open("rb") as lines:
        return read_canonical(lines)


def export_jsonl(
    connection: Connection, dataset: dataset_pb.Dataset, target: Path, *, split: str, advance: Advance
) -> int:
    """Writes the canonical lines, of one split if that is given, and returns their number.

    Without a split the file has the SHA-256 of the dataset.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not split:
        download_files(connection.registry, [_file(dataset, target.name)], target.parent, advance=advance)
        return dataset.trace_count
    count = _split_count(dataset, split)
    with _canonical_file(connection, dataset, advance) as path:
        lines = path.read_bytes().splitlines(keepends=True)
    rows = read_canonical(lines)
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(b"".join(line for line, (_, name) in zip(lines, rows, strict=True) if name == split))
    partial.replace(target)
    return count


def export_parquet(
    connection: Connection, dataset: dataset_pb.Dataset, target: Path, *, split: str, advance: Advance
) -> int:
    """Writes the traces as Parquet, of one split if that is given, and returns their number."""
    from tunix_rt.standalone.dataset_tables import write_parquet

    if split:
        _split_count(dataset, split)
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = read_dataset(connection, dataset, advance=advance)
    return write_parquet((row for row in rows if split in ("", row[1])), target)


def _split_count(dataset: dataset_pb.Dataset, split: str) -> int:
    counts = {each.name: each.trace_count for each in dataset.splits}
    if split not in counts:
        raise InvalidArgument.of("split", f"is `{split[:80]}`; `{dataset.name}` has {', '.join(counts)}.")
    return counts[split]


def _file(dataset: dataset_pb.Dataset, path: str) -> artifact_pb.File:
    return artifact_pb.File(path=path, sha256=dataset.sha256, size_bytes=dataset.size_bytes)


@contextmanager
def _canonical_file(connection: Connection, dataset: dataset_pb.Dataset, advance: Advance) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tunix-rt-dataset-") as folder:
        file = _file(dataset, "traces.jsonl")
        download_files(connection.registry, [file], Path(folder), advance=advance)
        yield Path(folder) / file.path
