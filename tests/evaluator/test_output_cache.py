"""Outputs on disk: which belong to the same question, and what becomes of a full, damaged or shared file."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.evaluator.messages import Decoding
from tunix_rt.evaluator.output_cache import Output, OutputCache, output_key

MEBIBYTE = 1024 * 1024
GREEDY = Decoding(max_tokens=8)
SAMPLED = Decoding(
    max_tokens=8, temperature=0.5, top_k=4, top_p=0.9, seed=3, min_p=0.1, repetition_penalty=1.1, stop=("Q:",)
)
KEY = output_key("weights", (1, 2, 3), SAMPLED, item=4, sample=1, engine="1")
OUTPUT = Output("Answer: 4 λ", "stop", 11, 5, 0.125)


def key_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def large(number: int) -> Output:
    return Output(f"{number} " + "x" * 10_000, "length", 1, 1, 0.5)


@pytest.fixture
def cache(tmp_path: Path) -> OutputCache:
    return OutputCache(tmp_path / "outputs", MEBIBYTE)


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": 9},
        {"temperature": 0.6},
        {"top_k": 5},
        {"top_p": 0.8},
        {"seed": 4},
        {"min_p": 0.2},
        {"repetition_penalty": 1.2},
        {"stop": ("Q:", "A:")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_decoding_setting_counts(change: dict[str, Any]) -> None:
    changed = replace(SAMPLED, **change)
    assert output_key("weights", (1, 2, 3), changed, item=4, sample=1, engine="1") != KEY


def test_no_decoding_setting_is_left_out_above() -> None:
    assert {each.name for each in fields(Decoding)} == {
        *("max_tokens", "temperature", "top_k", "top_p", "seed", "min_p", "repetition_penalty", "stop")
    }


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "other"},
        {"tokens": (1, 2, 4)},
        {"tokens": (12, 3)},
        {"item": 5},
        {"sample": 2},
        {"engine": "2"},
    ],
    ids=str,
)
def test_everything_beside_the_decoding_counts(change: dict[str, Any]) -> None:
    given = {"weights": "weights", "tokens": (1, 2, 3), "item": 4, "sample": 1, "engine": "1"} | change
    weights, tokens = given.pop("weights"), given.pop("tokens")
    assert output_key(weights, tokens, SAMPLED, **given) != KEY


def test_greedy_decoding_does_not_depend_on_what_fixes_draws() -> None:
    key = output_key("weights", (1, 2), GREEDY, item=0, sample=0, engine="1")
    seeded = replace(GREEDY, seed=9)
    assert output_key("weights", (1, 2), seeded, item=7, sample=3, engine="1") == key


def test_an_output_comes_back_as_it_was(cache: OutputCache, tmp_path: Path) -> None:
    cache.put({KEY: OUTPUT})
    assert cache.get([KEY, key_of(1)]) == {KEY: OUTPUT}
    cache.close()
    assert OutputCache(tmp_path / "outputs", MEBIBYTE).get([KEY]) == {KEY: OUTPUT}


def test_the_least_recently_used_outputs_make_room(cache: OutputCache, tmp_path: Path) -> None:
    cache.put({key_of(0): large(0)})
    for number in range(1, 300):
        cache.put({key_of(number): large(number)})
        assert list(cache.get([key_of(0)])) == [key_of(0)]
    kept = cache.get(key_of(number) for number in range(300))
    assert key_of(0) in kept
    assert key_of(299) in kept
    assert key_of(1) not in kept
    assert 40 < len(kept) < 105


def test_the_file_does_not_outgrow_its_limit(cache: OutputCache, tmp_path: Path) -> None:
    for number in range(300):
        cache.put({key_of(number): large(number)})
    cache.close()
    assert sum(path.stat().st_size for path in (tmp_path / "outputs").iterdir()) < 1.1 * MEBIBYTE


def test_a_smaller_limit_shrinks_the_file(cache: OutputCache, tmp_path: Path) -> None:
    cache.put({key_of(number): large(number) for number in range(80)})
    cache.close()
    smaller = OutputCache(tmp_path / "outputs", MEBIBYTE // 4)
    smaller.put({KEY: OUTPUT})
    smaller.close()
    assert (tmp_path / "outputs" / "outputs.sqlite3").stat().st_size < MEBIBYTE // 4 + 16 * 1024


def break_file(folder: Path) -> None:
    path = folder / "outputs" / "outputs.sqlite3"
    path.write_bytes(b"\xff" * path.stat().st_size)


def test_a_broken_file_is_moved_aside(
    cache: OutputCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put({KEY: OUTPUT})
    cache.close()
    break_file(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert cache.get([KEY]) == {}
    cache.put({KEY: OUTPUT})
    assert cache.get([KEY]) == {KEY: OUTPUT}
    assert (tmp_path / "outputs" / "outputs.broken").exists()
    assert "The output cache is broken" in caplog.text


def test_a_file_of_another_kind_is_moved_aside(cache: OutputCache, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    with sqlite3.connect(tmp_path / "outputs" / "outputs.sqlite3") as database:
        database.execute("CREATE TABLE outputs (name TEXT)")
    cache.put({KEY: OUTPUT})
    assert cache.get([KEY]) == {KEY: OUTPUT}


def test_a_process_goes_on_with_the_file_that_another_has_begun(cache: OutputCache, tmp_path: Path) -> None:
    cache.put({key_of(1): OUTPUT})
    with sqlite3.connect(tmp_path / "outputs" / "outputs.sqlite3") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    break_file(tmp_path)
    other = OutputCache(tmp_path / "outputs", MEBIBYTE)
    other.put({KEY: OUTPUT})
    assert cache.get([KEY, key_of(1)]) == {KEY: OUTPUT}
    cache.put({key_of(2): OUTPUT})
    cache.close()
    assert other.get([KEY, key_of(2)]) == {KEY: OUTPUT, key_of(2): OUTPUT}


def test_a_damaged_output_is_not_given_out(cache: OutputCache, tmp_path: Path) -> None:
    cache.put({KEY: OUTPUT, key_of(1): OUTPUT})
    with sqlite3.connect(tmp_path / "outputs" / "outputs.sqlite3") as database:
        database.execute("UPDATE outputs SET value = replace(value, '4', '5') WHERE key = ?", (KEY,))
    assert cache.get([KEY, key_of(1)]) == {key_of(1): OUTPUT}


def test_a_file_that_was_deleted_is_begun_again(cache: OutputCache, tmp_path: Path) -> None:
    cache.put({KEY: OUTPUT})
    for path in (tmp_path / "outputs").iterdir():
        path.unlink()
    assert cache.get([KEY]) == {}
    cache.put({KEY: OUTPUT})
    assert cache.get([KEY]) == {KEY: OUTPUT}


def test_a_locked_file_is_a_miss(
    cache: OutputCache, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunix_rt.evaluator.output_cache._WAIT_SECONDS", 0.01)
    cache.put({KEY: OUTPUT})
    other = sqlite3.connect(tmp_path / "outputs" / "outputs.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with caplog.at_level(logging.WARNING):
        assert cache.get([KEY]) == {}
        cache.put({key_of(1): OUTPUT})
    assert "database is locked" in caplog.text
    other.execute("ROLLBACK")
    other.close()
    assert cache.get([KEY, key_of(1)]) == {KEY: OUTPUT}


def test_a_folder_that_cannot_be_made_is_a_miss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "outputs").write_text("a file")
    cache = OutputCache(tmp_path / "outputs", MEBIBYTE)
    with caplog.at_level(logging.WARNING):
        cache.put({KEY: OUTPUT})
        assert cache.get([KEY]) == {}
    assert "cannot be used now" in caplog.text


WRITER = """
import sys
from pathlib import Path
from tunix_rt.evaluator.output_cache import Output, OutputCache

cache = OutputCache(Path(sys.argv[1]), 64 * 1024 * 1024)
first, count = int(sys.argv[2]), int(sys.argv[3])
for number in range(first, first + count):
    cache.put({number.to_bytes(32, "big"): Output(f"{number} " + "x" * 10_000, "length", 1, 1, 0.5)})
    print(number, flush=True)
"""


def writer(folder: Path, first: int, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(folder), str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_two_processes_write_beside_each_other(tmp_path: Path) -> None:
    for process in [writer(tmp_path, 0, 100), writer(tmp_path, 100, 100)]:
        process.communicate()
        assert process.returncode == 0
    kept = OutputCache(tmp_path, MEBIBYTE).get(key_of(number) for number in range(200))
    assert kept == {key_of(number): large(number) for number in range(200)}


def test_what_was_written_before_a_kill_is_there(tmp_path: Path) -> None:
    with writer(tmp_path, 0, 1_000_000) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) == 30:
                os.kill(process.pid, signal.SIGKILL)
                break
    kept = OutputCache(tmp_path, MEBIBYTE).get(key_of(number) for number in range(31))
    assert kept == {key_of(number): large(number) for number in range(31)}
