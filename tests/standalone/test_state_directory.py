"""The state folder: records, locks, and what a killed stack leaves behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tunix_rt.standalone.state import ServiceRecord, StackRecord, StackRunningError, StateDirectory

RECORD = StackRecord(
    pid=1,
    state="serving",
    gateway="127.0.0.1:1",
    web="127.0.0.1:2",
    services=(ServiceRecord("registry", "127.0.0.1:3", "serving", pid=7, restarts=2, reason="x"),),
)


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    directory = StateDirectory(tmp_path / "state")
    directory.make()
    return directory


def test_a_record_is_read_as_it_was_written(state: StateDirectory) -> None:
    state.write_record(RECORD)
    assert state.read_record() == RECORD
    assert state.read_record().service("registry").restarts == 2


def test_a_record_whose_owner_is_gone_does_not_count(state: StateDirectory) -> None:
    state.write_record(RECORD)
    assert state.running() is None
    with state.hold():
        assert state.running() == RECORD
    assert state.running() is None


def test_a_folder_is_held_by_one(state: StateDirectory) -> None:
    with state.hold(), pytest.raises(StackRunningError), state.hold():
        pass


def test_a_killed_owner_lets_go(state: StateDirectory) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from tunix_rt.standalone.state import StateDirectory\n"
        "with StateDirectory(Path(sys.argv[1])).hold():\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(state.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        assert state.held()
        owner.kill()
        owner.wait(10)
    assert not state.held()


def test_the_folder_is_found_by_option_then_variable_then_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNIX_RT_STATE", raising=False)
    assert StateDirectory.locate().root == Path.cwd() / ".tunix-rt"
    monkeypatch.setenv("TUNIX_RT_STATE", str(tmp_path / "b"))
    assert StateDirectory.locate().root == tmp_path / "b"
    assert StateDirectory.locate(Path("c")).root == Path.cwd() / "c"
