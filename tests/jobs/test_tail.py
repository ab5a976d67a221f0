"""The tail of a growing file: every item has one number, whatever is read when."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunix_rt.jobs.directory import metric_line
from tunix_rt.jobs.tail import MAX_LINE_BYTES, Tail, log_lines, metric_points, whole_lines_bytes


def drain(tail: Tail[str], *, ended: bool = True) -> list[tuple[int, str]]:
    found = []
    while batch := tail.read(ended=ended):
        found += [(batch.offset + index, item) for index, item in enumerate(batch.items)]
    return found


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


def test_a_file_that_does_not_exist_has_no_items(log: Path) -> None:
    tail = Tail(log, log_lines, keep_partial=True)
    assert tail.read(ended=False) is None
    assert whole_lines_bytes(log) == 0


def test_a_line_counts_when_its_line_end_is_written(log: Path) -> None:
    tail = Tail(log, log_lines, keep_partial=True)
    log.write_bytes(b"one\ntw")
    assert drain(tail, ended=False) == [(0, "one")]
    assert whole_lines_bytes(log) == 4
    with log.open("ab") as file:
        file.write(b"o\nthr")
    assert drain(tail, ended=False) == [(1, "two")]
    assert drain(tail) == [(2, "thr")]


def test_a_cut_off_metric_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(metric_line(1, 0.0, {"b": 2.0, "a": 1.0}) + '{"step": 2, "ti')
    batch = Tail(path, metric_points, keep_partial=False).read(ended=True)
    assert batch is not None
    assert [(point.metric, point.step, point.value) for point in batch.items] == [
        ("a", 1, 1.0),
        ("b", 1, 2.0),
    ]


def test_values_that_are_not_finite_survive(tmp_path: Path) -> None:
    points = metric_points(metric_line(1, 1761890000.123, {"a": float("nan"), "b": float("inf")}).encode())
    assert math.isnan(points[0].value)
    assert points[1].value == math.inf
    assert points[0].time_us == 1761890000123000


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"step": 1}', b'{"step":1,"time":0,"values":{"a":null}}'])
def test_a_broken_metric_line_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="broken line"):
        metric_points(line)


def test_what_was_not_acknowledged_is_read_again_with_the_same_numbers(log: Path) -> None:
    log.write_text("".join(f"{number}\n" for number in range(2500)))
    tail = Tail(log, log_lines, keep_partial=True)
    first = drain(tail)
    tail.seek(1000)
    assert drain(tail) == first[1000:]
    tail.seek(1700)
    assert drain(tail) == first[1700:]
    tail.seek(0)
    assert drain(tail) == first


def test_items_that_are_stored_already_are_passed_over(log: Path) -> None:
    log.write_text("".join(f"{number}\n" for number in range(3000)))
    tail = Tail(log, log_lines, keep_partial=True)
    tail.seek(2999)
    assert drain(tail) == [(2999, "2999")]


def test_acknowledged_bytes_end_with_a_whole_batch(log: Path) -> None:
    log.write_text("a\nb\n")
    tail = Tail(log, log_lines, keep_partial=True)
    drain(tail)
    assert tail.acknowledged_bytes == 0
    tail.acknowledge(2)
    assert tail.acknowledged_bytes == 4 == whole_lines_bytes(log)


def test_bytes_that_are_no_text_are_replaced(log: Path) -> None:
    log.write_bytes(b"a\xffb\x00c\r\n")
    assert drain(Tail(log, log_lines, keep_partial=True)) == [(0, "a\ufffdb\ufffdc")]


@given(
    lines=st.lists(st.sampled_from([0, 1, MAX_LINE_BYTES - 1, MAX_LINE_BYTES, MAX_LINE_BYTES + 1, 40000])),
    cuts=st.lists(st.integers(0, 200_000), max_size=6),
    closed=st.booleans(),
)
def test_numbers_do_not_depend_on_when_the_file_is_read(
    tmp_path_factory: pytest.TempPathFactory, lines: list[int], cuts: list[int], closed: bool
) -> None:
    content = b"\n".join(b"x" * size for size in lines) + (b"\n" if closed else b"")
    folder = tmp_path_factory.mktemp("tail")
    whole, growing = folder / "whole", folder / "growing"
    whole.write_bytes(content)
    tail = Tail(growing, log_lines, keep_partial=True)
    found = []
    for cut in sorted(cuts):
        growing.write_bytes(content[:cut])
        found += drain(tail, ended=False)
    growing.write_bytes(content)
    found += drain(tail)
    assert found == drain(Tail(whole, log_lines, keep_partial=True))
    assert all(len(text) <= MAX_LINE_BYTES for _, text in found)
