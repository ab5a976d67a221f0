"""Tables of traces: Parquet, Arrow and folders of Hugging Face `datasets`; only here is pyarrow imported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunix_rt.standalone.failures import CommandError
from tunix_rt.traces.columns import without_nulls
from tunix_rt.traces.import_rows import SourceRow
from tunix_rt.traces.trace import Trace, plain_json

FORMAT_KEY = b"tunix_rt.format"
FORMAT = b"trace@1"
_ROWS = 2000
_SPLITS = ("train", "validation", "test")  # come first, in this order
_SHARD = re.compile(r"(?P<split>.+?)(-\d{5}-of-\d{5}(-[0-9a-f]+)?)?")
_TABLES = (".parquet", ".arrow")


@dataclass(frozen=True)
class TableFile:
    """A file of a table, its split, and its path as messages name it."""

    path: Path
    split: str
    shown: str


def is_table(path: Path) -> bool:
    """Whether a path is a table: a Parquet or Arrow file, or a folder."""
    return path.is_dir() or path.suffix in _TABLES


def table_files(path: Path, split: str = "") -> list[TableFile]:
    """The files of a table, of one split if that is given, in the order of their rows.

    A folder is what `save_to_disk` has written, or holds Parquet or Arrow files that are named after their
    splits: `train-00000-of-00002.parquet`, `train.parquet`, `train/0000.parquet`. Raises CommandError.
    """
    if not path.is_dir():
        found = [TableFile(path, _split_of(path, path.parent), path.name)]
        return found if not split else [TableFile(path, split, path.name)]
    if (path / "dataset_dict.json").is_file():
        names = [str(name) for name in _json(path / "dataset_dict.json").get("splits", [])]
        if not names or any(Path(name).name != name for name in names):
            raise _unusable(path, "names no folders of splits in its dataset_dict.json.")
        found = [file for name in names for file in _saved(path / name, path, name)]
    elif (path / "state.json").is_file():
        found = _saved(path, path, "")
    else:
        found = _by_name(path)
    splits = list(dict.fromkeys(file.split for file in found))
    if split and split not in splits:
        raise _unusable(path, f"has no split `{split}`; it has {', '.join(splits)}.")
    return [file for file in found if split in ("", file.split)]


def table_rows(files: Iterable[TableFile]) -> Iterator[SourceRow]:
    """The rows of files as records, without the keys that are null. Raises CommandError."""
    _pyarrow()
    for file in files:
        number = 0
        for batch, ours in _batches(file):
            for filled in batch.to_pylist():
                number += 1
                record: Any = without_nulls(filled)
                if ours and isinstance(record.get("meta"), str):
                    record["meta"] = json.loads(record["meta"])
                yield SourceRow(f"{file.shown} row {number}", record, file.split)


def write_parquet(rows: Iterable[tuple[Trace, str]], path: Path) -> int:
    """Writes traces with their splits as Parquet, whole or not at all, and returns their number."""
    pyarrow = _pyarrow()
    schema = _schema(pyarrow)
    partial = path.with_name(path.name + ".partial")
    count = 0
    try:
        with pyarrow.parquet.ParquetWriter(partial, schema, compression="zstd") as writer:
            for records in _chunks(_record(trace, split) for trace, split in rows):
                writer.write_table(pyarrow.Table.from_pylist(records, schema=schema))
                count += len(records)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _schema(pyarrow: Any) -> Any:
    """The columns of an exported trace; the metadata are JSON, since each trace may have other keys."""
    text = pyarrow.string()
    step = pyarrow.struct([("i", pyarrow.int64()), ("type", text), ("content", text)])
    turn = pyarrow.struct([("role", text), ("content", text)])
    columns = [("id", text), ("split", text), ("prompt", text), ("steps", pyarrow.list_(step))]
    columns += [("final_answer", text), ("answer_type", text), ("aliases", pyarrow.list_(text))]
    columns += [("completion", text), ("messages", pyarrow.list_(turn)), ("meta", text)]
    return pyarrow.schema(columns, metadata={FORMAT_KEY: FORMAT})


def _record(trace: Trace, split: str) -> dict[str, object]:
    turns = [{"role": turn.role, "content": turn.content} for turn in trace.messages]
    return {
        "id": trace.id,
        "split": split,
        "prompt": trace.prompt,
        "steps": [{"i": step.i, "type": step.type, "content": step.content} for step in trace.steps],
        "final_answer": trace.final_answer,
        "answer_type": trace.answer_type,
        "aliases": list(trace.aliases),
        "completion": trace.completion,
        "messages": turns or None,
        "meta": json.dumps(plain_json(trace.meta), sort_keys=True, ensure_ascii=False, allow_nan=False),
    }


def _chunks(records: Iterator[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    chunk: list[dict[str, object]] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == _ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _batches(file: TableFile) -> Iterator[tuple[Any, bool]]:
    """The batches of a file, and whether `write_parquet` has made it."""
    pyarrow = _pyarrow()
    try:
        if file.path.suffix == ".parquet":
            with pyarrow.parquet.ParquetFile(file.path) as reader:
                ours = (reader.schema_arrow.metadata or {}).get(FORMAT_KEY) == FORMAT
                for batch in reader.iter_batches(batch_size=_ROWS):
                    yield batch, ours
            return
        with pyarrow.memory_map(str(file.path)) as source:
            for batch in _arrow_batches(pyarrow, source):
                for first in range(0, batch.num_rows, _ROWS):
                    yield batch.slice(first, _ROWS), False
    except pyarrow.ArrowException as error:
        raise _unusable(file.path, f"is no readable table: {error}") from error


def _arrow_batches(pyarrow: Any, source: Any) -> Iterator[Any]:
    """The batches of an Arrow stream, which `datasets` writes, or of an Arrow file."""
    try:
        yield from pyarrow.ipc.open_stream(source)
    except pyarrow.ArrowInvalid:
        source.seek(0)
        reader = pyarrow.ipc.open_file(source)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)


def _saved(folder: Path, root: Path, split: str) -> list[TableFile]:
    """The files that `Dataset.save_to_disk` has written into a folder."""
    state = _json(folder / "state.json")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise _unusable(folder, "has an index over its rows; call flatten_indices() and save it again.")
    names = [str(each.get("filename", "")) for each in state.get("_data_files", [])]
    if not names:
        raise _unusable(folder, "names no files in its state.json.")
    split = split or str(state.get("_split") or "")
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise _unusable(folder, f"names the file {name} in its state.json, which is not there.")
    return [TableFile(folder / name, split, str((folder / name).relative_to(root))) for name in names]


def _by_name(folder: Path) -> list[TableFile]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _TABLES and path.is_file())
    paths = [path for path in paths if not path.name.startswith((".", "_", "cache-"))]
    if not paths:
        raise _unusable(folder, "holds no Parquet or Arrow file; give a file, or a folder of a dataset.")
    found = [TableFile(path, _split_of(path, folder), str(path.relative_to(folder))) for path in paths]
    found.sort(key=lambda file: _SPLITS.index(file.split) if file.split in _SPLITS else len(_SPLITS))
    homes = sorted({_home(file, folder) for file in found})
    if len(homes) > 1:
        raise _unusable(folder, f"has several datasets: {', '.join(homes)}. Name one of these folders.")
    return found


def _split_of(path: Path, root: Path) -> str:
    match = _SHARD.fullmatch(path.stem)
    name = match["split"] if match else path.stem
    return path.parent.name if name.isdigit() and path.parent != root else name


def _home(file: TableFile, root: Path) -> str:
    """The folder that a split's file lies in, leaving out the folder that is named after the split."""
    folder = file.path.parent
    return str((folder.parent if folder.name == file.split and folder != root else folder).relative_to(root))


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise _unusable(path, f"is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise _unusable(path, "is no JSON object.")
    return value


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        message = "Parquet and Arrow need pyarrow. Install it with `pip install 'tunix-rt[data]'`."
        raise CommandError("PYARROW_MISSING", message) from error
    return pyarrow


def _unusable(path: Path, text: str) -> CommandError:
    return CommandError("FILE_UNUSABLE", f"{path} {text}")
