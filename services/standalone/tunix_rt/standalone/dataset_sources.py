"""Traces from a generator or from a person's file, with the source that the registry records."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.json_format import MessageToDict

from tunix_rt.blobs.blobs import hash_file
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.connection import CALL_SECONDS, Connection
from tunix_rt.standalone.dataset_tables import is_table, table_files, table_rows
from tunix_rt.standalone.dataset_upload import source_of
from tunix_rt.traces.faults import Faults
from tunix_rt.traces.import_rows import Imported, ImportRules, import_rows
from tunix_rt.traces.jsonl import import_jsonl
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


def from_file(
    path: Path, rules: ImportRules | None = None, *, split: str = ""
) -> tuple[dataset_pb.DatasetSource, Imported]:
    """The traces of a JSONL file, of a table, or of a folder of tables: all of them or none.

    `split` takes one split of a table. Raises TraceError, CommandError, OSError.
    """
    rules = rules or ImportRules()
    if faults := rules.columns.faults():
        raise TraceError(faults)
    if is_table(path):
        files = table_files(path, split)
        found = import_rows(table_rows(files), rules, Faults())
        digest = _digest_of([(file.shown, hash_file(file.path).sha256) for file in files])
    elif split:
        raise InvalidArgument.of("source-split", "needs a table or a folder; a JSONL file has no splits.")
    else:
        with path.open("rb") as stream:
            found = import_jsonl(stream, rules)
        digest = hash_file(path).sha256
    if not found.traces:
        raise TraceError([Violation(path=str(path), message="has no traces; give one that has some.")])
    return source_of("upload", config=_source_config(path, digest, rules, split)), found


def _source_config(path: Path, digest: str, rules: ImportRules, split: str) -> dict[str, object]:
    """What one needs to make the same traces of the same file again."""
    columns = rules.columns
    settings = {
        "map": dict(columns.sources),
        "format": columns.format,
        "others": "" if columns.others == "refuse" else columns.others,
        "split": split,
        "duplicates": "skip" if rules.duplicates == "skip" else "",
    }
    given = {key: value for key, value in settings.items() if value}
    return {"file": path.resolve().name, "sha256": digest, **given}


def _digest_of(files: list[tuple[str, str]]) -> str:
    """The SHA-256 of one file, or that of the names and digests of several."""
    if len(files) == 1:
        return files[0][1]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in files).encode()).hexdigest()


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
