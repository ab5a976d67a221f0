"""Tables of traces: Parquet, Arrow and folders of Hugging Face `datasets`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunix_rt.standalone.dataset_sources import from_file
from tunix_rt.standalone.dataset_tables import table_files, write_parquet
from tunix_rt.standalone.failures import CommandError
from tunix_rt.traces.columns import Columns
from tunix_rt.traces.import_rows import ImportRules
from tunix_rt.traces.trace import ChatMessage, Step, Trace, TraceError

KEPT = ImportRules(keep_splits=True)


def table(*names: str, **columns: object) -> pa.Table:
    return pa.table({"prompt": [f"{n}?" for n in names], "final_answer": ["4"] * len(names), **columns})


def write_arrow(path, made: pa.Table) -> None:
    """As `datasets` writes its files: an Arrow stream."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, made.schema) as writer:
        writer.write_table(made)


def save_to_disk(folder, made: pa.Table, split=None, **state: object) -> None:
    """What `Dataset.save_to_disk` of datasets 4 leaves."""
    write_arrow(folder / "data-00000-of-00001.arrow", made)
    files = [{"filename": "data-00000-of-00001.arrow"}]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": split, **state}))
    (folder / "dataset_info.json").write_text("{}")


def prompts(found):
    return [trace.prompt for trace in found.traces]


def test_a_parquet_file_is_read(tmp_path) -> None:
    pq.write_table(table("a", "b"), tmp_path / "mine.parquet")
    source, found = from_file(tmp_path / "mine.parquet")
    assert prompts(found) == ["a?", "b?"]
    assert source.config["file"] == "mine.parquet"


def test_every_broken_row_is_named_with_its_column(tmp_path) -> None:
    made = pa.table({"prompt": ["a?", "", "c?"], "final_answer": ["1", "2", None], "level": [1, 2, 3]})
    pq.write_table(made, tmp_path / "mine.parquet")
    with pytest.raises(TraceError) as caught:
        from_file(tmp_path / "mine.parquet", ImportRules(Columns(others="drop")))
    assert [each.path for each in caught.value.violations] == [
        "mine.parquet row 2: prompt",
        "mine.parquet row 3",
    ]


def test_nested_chat_columns_and_nulls_are_read(tmp_path) -> None:
    turns = [{"role": "user", "content": "2 + 2?", "name": None}, {"role": "assistant", "content": "4"}]
    made = pa.table({"messages": [turns], "source": pa.array([None], pa.string())})
    pq.write_table(made, tmp_path / "chat.parquet")
    _, found = from_file(tmp_path / "chat.parquet")
    assert (found.traces[0].prompt, found.traces[0].completion) == ("2 + 2?", "4")


def test_a_saved_dataset_dict_keeps_its_splits_on_wish(tmp_path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    save_to_disk(tmp_path / "train", table("a", "b"), "train")
    save_to_disk(tmp_path / "test", table("c"), "test")
    _, found = from_file(tmp_path, KEPT)
    assert list(zip(prompts(found), found.splits, strict=True)) == [
        ("a?", "train"),
        ("b?", "train"),
        ("c?", "test"),
    ]
    assert from_file(tmp_path)[1].splits == ["", "", ""]
    assert prompts(from_file(tmp_path, split="test")[1]) == ["c?"]


def test_a_saved_dataset_is_read_and_one_with_an_index_is_refused(tmp_path) -> None:
    save_to_disk(tmp_path / "one", table("a"), "train")
    assert from_file(tmp_path / "one", KEPT)[1].splits == ["train"]
    save_to_disk(tmp_path / "two", table("a"), _indices_files=[{"filename": "indices.arrow"}])
    with pytest.raises(CommandError, match="flatten_indices"):
        from_file(tmp_path / "two")


@pytest.mark.parametrize("folder", ["..", "/"])
def test_a_saved_dataset_reads_no_file_outside_of_its_folder(tmp_path, folder) -> None:
    save_to_disk(tmp_path / "one", table("a"))
    write_arrow(tmp_path / "x.arrow", table("b"))
    outside = str(tmp_path / "x.arrow" if folder == "/" else Path("..") / "x.arrow")
    (tmp_path / "one" / "state.json").write_text(json.dumps({"_data_files": [{"filename": outside}]}))
    with pytest.raises(CommandError, match="not there"):
        from_file(tmp_path / "one")


def test_a_dataset_dict_names_folders_of_its_own(tmp_path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["../other"]}')
    with pytest.raises(CommandError, match="names no folders of splits"):
        from_file(tmp_path)


def test_without_pyarrow_a_table_is_refused_with_the_remedy(tmp_path, monkeypatch) -> None:
    pq.write_table(table("a"), tmp_path / "mine.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CommandError, match=r"pip install 'tunix-rt\[data\]'") as caught:
        from_file(tmp_path / "mine.parquet")
    assert caught.value.reason == "PYARROW_MISSING"


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], ["train", "train"]),
        (["test-00000-of-00001-0a1b2c3d.parquet", "train.parquet"], ["train", "test"]),
        (["a/hard/0000.parquet", "a/test/0000.parquet", "a/train/0000.parquet"], ["train", "test", "hard"]),
    ],
)
def test_the_files_of_a_folder_are_named_after_their_splits(tmp_path, names, splits) -> None:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(name), path)
    assert [file.split for file in table_files(tmp_path)] == splits


def test_a_folder_of_several_datasets_is_refused(tmp_path) -> None:
    for name in ("main", "socratic"):
        (tmp_path / name).mkdir()
        pq.write_table(table("a"), tmp_path / name / "train-00000-of-00001.parquet")
    with pytest.raises(CommandError, match=r"several datasets: main, socratic\."):
        table_files(tmp_path)


def test_a_split_that_is_not_there_is_refused(tmp_path) -> None:
    pq.write_table(table("a"), tmp_path / "train.parquet")
    with pytest.raises(CommandError, match="no split `dev`; it has train"):
        table_files(tmp_path, "dev")


def test_a_file_that_is_no_table_is_refused(tmp_path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(CommandError, match="no readable table"):
        from_file(tmp_path / "x.parquet")


def test_traces_come_back_from_parquet_as_they_were(tmp_path) -> None:
    turns = tuple(map(ChatMessage, ["user", "assistant"] * 2, "uavw"))
    rows = [
        (Trace("a", "p\n½", (Step(0, "t", "é"),), "4", "integer", ("four",), meta={"x": {"y": None}}), "one"),
        (Trace("b", "q", completion="c", meta={"x": [1, 2.5]}), "two"),
        (Trace("c", "v", messages=turns), "two"),
    ]
    assert write_parquet(rows, tmp_path / "x.parquet") == 3
    _, found = from_file(tmp_path / "x.parquet", KEPT)
    assert list(zip(found.traces, found.splits, strict=True)) == rows
