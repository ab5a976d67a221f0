"""Traces from a generator or from a person's file, with the source that the registry records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunix_rt.blobs.blobs import hash_file
from tunix_rt.standalone.dataset_upload import source_of
from tunix_rt.standalone.failures import CommandError
from tunix_rt.traces.trace import Trace, TraceError, Violation
from tunix_rt.v1 import dataset_pb2 as dataset_pb


def from_generator(
    generator: str, *, seed: int, size: int, config: Mapping[str, object]
) -> tuple[dataset_pb.DatasetSource, list[Trace]]:
    """The traces of a generator such as `golden@2`. Raises TraceError."""
    from tunix_rt.traces.dataset_sources import build

    traces = build(generator, seed, size, config)
    return source_of(generator, seed=seed, size=size, config=dict(config)), traces


def from_file(path: Path) -> tuple[dataset_pb.DatasetSource, list[Trace]]:
    """The traces of a JSONL file, all of them or none. Raises TraceError, CommandError, OSError."""
    from tunix_rt.traces.jsonl import read_jsonl

    if path.is_dir():
        raise CommandError("FILE_UNUSABLE", f"{path} is a directory; give a JSONL file.")
    with path.open("rb") as stream:
        traces = read_jsonl(stream)
    if not traces:
        raise TraceError(
            [Violation(path=str(path), message="has no traces; it must have one JSON object a line.")]
        )
    source = source_of("upload", config={"file": path.name, "sha256": hash_file(path).sha256})
    return source, traces
