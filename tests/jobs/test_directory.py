"""The job directory: what is written is whole, what is read is complete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunix_rt.jobs.directory import JobDirectory, metric_line, read_json, write_json


def test_only_renamed_checkpoints_are_complete_and_they_are_ordered_by_step(tmp_path: Path) -> None:
    directory = JobDirectory(tmp_path)
    assert directory.complete_checkpoints() == []
    for name in ("00000500", "00000020", ".00000600.partial", "0000070"):
        (directory.checkpoints / name).mkdir(parents=True)
    assert [step for step, _ in directory.complete_checkpoints()] == [20, 500]
    assert directory.checkpoint(500) == directory.complete_checkpoints()[-1][1]


def test_a_value_that_json_does_not_know_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    write_json(path, {"steps": 3})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"loss": float("nan")})
    assert read_json(path) == {"steps": 3}
    assert [each.name for each in tmp_path.iterdir()] == ["facts.json"]


def test_a_metric_line_writes_what_is_not_finite_as_text() -> None:
    line = metric_line(7, 12.5, {"a": 1.5, "b": float("nan"), "c": float("-inf")})
    assert line.endswith("\n")
    assert json.loads(line) == {"step": 7, "time": 12.5, "values": {"a": 1.5, "b": "nan", "c": "-inf"}}
