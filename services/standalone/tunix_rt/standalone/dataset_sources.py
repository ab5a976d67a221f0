"""Traces from a generator or from a person's file, with the source that the registry records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from google.protobuf.json_format import MessageToDict

from tunix_rt.blobs.blobs import hash_file
from tunix_rt.standalone.connection import CALL_SECONDS, Connection
from tunix_rt.standalone.dataset_upload import source_of
from tunix_rt.standalone.failures import CommandError
from tunix_rt.traces.trace import Trace, TraceError, Violation
from tunix_rt.v1 import dataset_pb2 as dataset_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb


def default_splits(generator: str) -> str:
    """The shares of a generator's traces where nobody says: an evaluation set is for testing only."""
    from tunix_rt.traces.dataset_sources import EVAL_SETS

    return "test=1" if generator in EVAL_SETS else ""


def from_generator(
    generator: str, *, seed: int, size: int | None, config: Mapping[str, object]
) -> tuple[dataset_pb.DatasetSource, list[Trace]]:
    """The traces of a generator such as `golden@2`. Raises TraceError."""
    from tunix_rt.traces.dataset_sources import build, default_size

    size = default_size(generator) if size is None else size
    traces = build(generator, seed, size, config)
    return source_of(generator, seed=seed, size=size, config=dict(config)), traces


def from_dataset(connection: Connection, name: str, split: str) -> list[Trace]:
    """The traces of a dataset, of one split if that is given."""
    traces: list[Trace] = []
    request = registry_pb.ListTracesRequest(dataset=name, split=split, page_size=1000)
    while True:
        page = connection.registry.ListTraces(request, timeout=CALL_SECONDS)
        traces += [_trace(message) for message in page.traces]
        if not page.next_page_token:
            return traces
        request.page_token = page.next_page_token


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


def _trace(message: dataset_pb.Trace) -> Trace:
    """The fields of a trace that say what is asked and how the answer is scored."""
    return Trace(
        id=message.id,
        prompt=message.prompt,
        final_answer=message.final_answer,
        answer_type=message.answer_type,
        aliases=tuple(message.aliases),
        completion=message.completion,
        meta=MessageToDict(message.meta),
    )
