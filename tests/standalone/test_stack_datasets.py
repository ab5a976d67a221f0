"""Datasets through the command line and a real stack: what is wrong is named, and nothing half made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tunix_rt.standalone.connection import connect
from tunix_rt.standalone.dataset_sources import from_file
from tunix_rt.standalone.dataset_upload import DatasetPlan, upload_dataset
from tunix_rt.v1 import dataset_pb2, registry_service_pb2

pytestmark = pytest.mark.timeout(240)  # the first test waits for the stack


def write_traces(path: Path, count: int, **changes: object) -> Path:
    records = [
        {"prompt": f"What is {n} + 2?", "final_answer": n + 2, "meta": {"n": n, "half": n / 2}} | changes
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def names(command: Callable) -> set[str]:
    return {dataset["name"] for dataset in command("datasets", "list", "--json").json.get("datasets", [])}


def test_a_generated_dataset_is_the_same_every_time(command: Callable) -> None:
    first = command("datasets", "create", "golden-a", "--generator", "golden@2", "--json").json
    again = command("datasets", "create", "golden-a", "--generator", "golden@2", "--json").json
    other = command("datasets", "create", "golden-b", "--generator", "golden@2", "--json").json
    seed = command("datasets", "create", "golden-c", "--generator", "golden@2", "--seed", "1", "--json").json
    assert first == again
    assert first["state"] == "SEALED"
    assert first["sha256"] == other["sha256"] != seed["sha256"]
    assert first["source"] == {"generator": "golden@2", "seed": "42", "size": "100"}


def test_a_taken_id_with_other_content_is_refused(command: Callable) -> None:
    command("datasets", "create", "taken", "--generator", "golden@2")
    answer = command("datasets", "create", "taken", "--generator", "golden@2", "--size", "5", "--json")
    assert answer.error["code"] == "ALREADY_EXISTS"


def test_a_file_becomes_a_sealed_dataset(command: Callable, tmp_path: Path) -> None:
    path = write_traces(tmp_path / "traces.jsonl", 40)
    splits = "train=0.5,test=0.5"
    made = command("datasets", "create", "from-file", "--file", str(path), "--splits", splits, "--json").json
    assert made["trace_count"] == "40"
    assert {split["name"]: split["fraction"] for split in made["splits"]} == {"train": 0.5, "test": 0.5}
    assert made["source"]["config"]["file"] == "traces.jsonl"
    shown = command("datasets", "show", "from-file", "--traces", "40", "--json").json
    assert [trace["meta"]["n"] for trace in shown["traces"]] == list(range(40))
    plain = command("datasets", "show", "from-file")
    assert "What is 0 + 2?" in plain.out
    assert "train" in plain.out


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        ('{"prompt": "x", ', "line 21", "not valid JSON"),
        ('{"prompt": "x"}', "line 21", ""),
        ('{"prompt": "x", "final_answer": "1", "question": 2}', "line 21: question", "not a known key"),
        ("\xff", "line 21", ""),
    ],
)
def test_a_broken_line_in_the_middle_is_named_and_nothing_is_created(
    command: Callable, tmp_path: Path, line: str, field: str, message: str
) -> None:
    path = write_traces(tmp_path / "broken.jsonl", 40)
    lines = path.read_bytes().splitlines()
    lines.insert(20, line.encode("latin-1"))
    path.write_bytes(b"\n".join(lines))
    answer = command("datasets", "create", "broken", "--file", str(path), "--json")
    assert answer.error["code"] == "INVALID_ARGUMENT"
    violation = answer.error["violations"][0]
    assert violation["field"].startswith(field)
    assert message in violation["description"]
    assert "datasets/broken" not in names(command)


def test_a_line_of_a_gigabyte_is_named_without_being_read(command: Callable, tmp_path: Path) -> None:
    path = write_traces(tmp_path / "huge.jsonl", 3)
    with path.open("r+b") as file:
        file.truncate(1 << 30)
    answer = command("datasets", "create", "huge", "--file", str(path), "--json")
    assert answer.error["violations"][0]["field"] == "line 4"
    assert "longer than" in answer.error["violations"][0]["description"]
    assert "datasets/huge" not in names(command)


@pytest.mark.parametrize(("name", "reason"), [("missing.jsonl", "FILE_UNUSABLE"), (".", "FILE_UNUSABLE")])
def test_a_file_that_cannot_be_read_is_named(
    command: Callable, tmp_path: Path, name: str, reason: str
) -> None:
    answer = command("datasets", "create", "none", "--file", str(tmp_path / name), "--json")
    assert answer.error["reason"] == reason


def test_an_empty_file_is_an_error(command: Callable, tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.touch()
    answer = command("datasets", "create", "none", "--file", str(path), "--json")
    assert answer.error["reason"] == "TRACES_INVALID"


def test_wrong_splits_are_named(command: Callable) -> None:
    answer = command(
        "datasets", "create", "none", "--generator", "golden@2", "--splits", "train=0.5,test=0.4", "--json"
    )
    assert "splits" in answer.error["violations"][0]["field"]
    assert "datasets/none" not in names(command)


class Interrupted(Exception):
    """Stands for Ctrl-C in the middle of an upload."""


def test_an_interrupted_upload_goes_on_where_it_stopped(command: Callable, tmp_path: Path) -> None:
    path = write_traces(tmp_path / "long.jsonl", 1200)
    source, found = from_file(path)
    traces = found.traces
    plan = DatasetPlan("long", dataset_pb2.Dataset(source=source), traces)
    stored = 0

    def interrupt(done: int) -> None:
        nonlocal stored
        stored += done
        if stored:
            raise Interrupted

    with connect() as connection:
        with pytest.raises(Interrupted):
            upload_dataset(connection, plan, advance=interrupt)
        request = registry_service_pb2.GetDatasetRequest(name="datasets/long")
        assert connection.registry.GetDataset(request).trace_count == 500
    other = write_traces(tmp_path / "other.jsonl", 3)
    refused = command("datasets", "create", "long", "--file", str(other), "--json")
    assert refused.error["code"] == "ALREADY_EXISTS"
    made = command("datasets", "create", "long", "--file", str(path), "--json").json
    assert made["state"] == "SEALED"
    assert made["trace_count"] == "1200"
    whole = command("datasets", "create", "whole", "--file", str(path), "--json").json
    assert whole["sha256"] == made["sha256"]


def test_an_evaluation_set_is_made_whole_and_for_testing_only(command: Callable) -> None:
    made = command("datasets", "create", "units", "--generator", "units-eval@1", "--json").json
    assert made["trace_count"] == "240"
    assert [split["name"] for split in made["splits"]] == ["test"]
    checked = command("datasets", "validate", "units", "--json").json
    assert (checked["items"], checked["faults"]) == (240, [])
    assert checked["sections"]["money"] == 28


def test_a_set_that_cannot_be_scored_by_is_named_item_by_item(command: Callable, tmp_path: Path) -> None:
    good = {"id": "a", "prompt": "2 + 2?", "expected_answer": "4", "answer_type": "integer"}
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(good) + "\n")
    assert command("datasets", "validate", "--file", str(path)).code == 0
    bad = [{**good, "id": "b"}, {**good, "id": "c", "prompt": "3 + 3?", "expected_answer": "six or so"}]
    path.write_text("".join(json.dumps(record) + "\n" for record in [good, *bad]))
    answer = command("datasets", "validate", "--file", str(path), "--json")
    assert answer.code == 1
    report = json.loads(answer.out)
    assert [fault["id"] for fault in report["faults"]] == ["b", "c"]
    assert (report["items"], report["duplicates"]) == (3, 1)
    plain = command("datasets", "validate", "--file", str(path))
    assert plain.code == 1
    assert "b asks what a asks; leave one out." in plain.out
    both = command("datasets", "validate", "units", "--file", str(path), "--json")
    assert both.error["code"] == "INVALID_ARGUMENT"
