"""A stack of one's own, started by the command line as a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunix_rt.standalone import output
from tunix_rt.standalone.cli import main
from tunix_rt.standalone.state import StackRecord, StateDirectory

PROGRAM = str(Path(sys.executable).parent / "tunix-rt")


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def error(self) -> dict:
        assert self.code == 1, self.out
        return json.loads(self.err)


@dataclass(frozen=True)
class RunningStack:
    """A stack that `tunix-rt up --detach` started."""

    state: StateDirectory
    record: StackRecord

    def program(self, *arguments: str) -> Answer:
        """Runs the command line in a process of its own."""
        done = subprocess.run(
            [PROGRAM, *arguments], capture_output=True, text=True, timeout=150, env=self.environment
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "TUNIX_RT_STATE": str(self.state.root), "COLUMNS": "160"}

    def wait_for(self, what: Callable[[StackRecord], bool], seconds: float = 60) -> StackRecord:
        """The record once it is as asked for."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            record = self.state.read_record()
            if record and what(record):
                return record
            time.sleep(0.05)
        raise AssertionError(f"the stack stayed at {self.state.read_record()}")


@pytest.fixture(scope="session")
def state_folder() -> Iterator[Path]:
    """A folder outside pytest's own, which another session closes to the user that runs PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="tunix-rt-stack-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def stack(state_folder: Path, compile_cache: Path) -> Iterator[RunningStack]:
    state = StateDirectory(state_folder / "state")
    state.root.mkdir()
    state.compile_cache.symlink_to(compile_cache)
    environment = {**os.environ, "TUNIX_RT_LEASE_SECONDS": "3"}
    command = [PROGRAM, "up", "--detach", "--port", "0", "--web-port", "0", "--state", str(state.root)]
    started = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert started.returncode == 0, started.stderr
    record = state.running()
    assert record is not None
    yield RunningStack(state, record)
    stopped = subprocess.run(
        [PROGRAM, "down", "--state", str(state.root)], capture_output=True, text=True, timeout=150
    )
    assert stopped.returncode == 0, stopped.stderr
    assert not state.held()
    assert not (state.postgres / "postmaster.pid").exists()


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tunix_rt.lm.tiny import make_tiny_model
    from tunix_rt.traces.golden import golden_v2
    from tunix_rt.traces.text import completion_text

    folder = tmp_path_factory.mktemp("model") / "tiny"
    texts = [text for trace in golden_v2() for text in (trace.prompt, completion_text(trace))]
    make_tiny_model(folder, texts, seed=1, hidden_size=64, num_layers=2)
    return folder


@pytest.fixture
def command(
    stack: RunningStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Runs a command in this process against the stack."""
    monkeypatch.setenv("TUNIX_RT_STATE", str(stack.state.root))
    for each in (output.console, output.errors):  # they took their width when they were imported
        monkeypatch.setattr(each, "width", 160)
    monkeypatch.delenv("TUNIX_RT_GATEWAY", raising=False)

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        code = main(arguments)
        streams = capsys.readouterr()
        return Answer(code, streams.out, streams.err)

    return run
