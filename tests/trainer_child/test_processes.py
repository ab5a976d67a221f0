"""A run in two processes on this host: it trains as in one, and ends as one."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tunix_rt.jobs.directory import JobDirectory, read_json, write_json
from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.processes import Seat, device_shares, process_count
from tunix_rt.trainer.training import train

pytestmark = pytest.mark.timeout(240)  # some start three processes that import JAX

SPEC = {
    "steps": 1000,
    "optimizer": {"learning_rate": 0.001},
    "validate_every": 0,
    "checkpoint_every": 0,
}
TWO = {**SPEC, "sharding": {"processes": 2, "fsdp": 2}}
QUICKLY_COMPILED = "--xla_backend_optimization_level=0"


@pytest.fixture(scope="module")
def shallow(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shallow") / "model"
    make_tiny_model(folder, ["Calculate 3 + 4.", "3 + 4 = 7"] * 5, hidden_size=32, num_layers=1)
    return folder


@contextmanager
def held(directory: JobDirectory) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[dict[str, Any]]]]:
    """A running child and its lines of metrics.

    They go through a pipe of one page, so it runs at most some ten steps ahead of the reader.
    """
    os.mkfifo(directory.metrics)
    command = [sys.executable, "-m", "tunix_rt.trainer.job", str(directory.root)]
    environment = {**os.environ, "XLA_FLAGS": QUICKLY_COMPILED}
    with (
        directory.log.open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
        directory.metrics.open("rb", buffering=0) as pipe,
    ):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        yield process, map(json.loads, pipe)


def peer_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def ended(process: int) -> None:
    """Wait for the end of a process that is not our child."""
    waiting = select.poll()
    waiting.register(process, select.POLLIN)
    assert waiting.poll(10_000), "it has not ended"
    os.close(process)


@pytest.fixture(scope="module")
def stopped(jobs, shallow) -> tuple[JobDirectory, list[dict[str, Any]]]:
    """A run in two processes that was told to stop after some steps, and its metrics."""
    directory = jobs.make(TWO, base=shallow)
    with held(directory) as (process, lines):
        seen = [next(lines) for _ in range(3)]
        peer = os.pidfd_open(peer_of(process.pid))
        process.terminate()
        seen += lines
    assert process.returncode == 0, directory.log.read_text()
    ended(peer)
    return directory, seen


def test_two_processes_stop_together(stopped):
    directory, seen = stopped
    reached = seen[-1]["step"]
    assert read_json(directory.outcome) == {"state": "stopped", "step": reached}
    assert [step for step, _ in directory.complete_checkpoints()] == [reached]


def test_two_processes_say_that_they_are_two(stopped):
    facts = read_json(stopped[0].facts)
    assert (facts["devices"], facts["mesh"], facts["processes"]) == (2, {"data": 1, "fsdp": 2}, 2)


def test_two_processes_train_as_one(stopped, jobs, shallow):
    directory, seen = stopped
    alone, reached = jobs.make(SPEC, base=shallow), seen[-1]["step"]
    asked = iter([False] * 2 * reached)  # before each step and after it
    train(alone, lambda: next(asked, True), report=lambda _: None)
    lines = map(json.loads, alone.metrics.read_text().splitlines())
    expected = {line["step"]: line["values"]["train/loss"] for line in lines}
    assert {line["step"]: line["values"]["train/loss"] for line in seen} == pytest.approx(expected, rel=1e-6)
    weights, found = (
        load_file(each.checkpoint(reached) / "trained.safetensors") for each in (alone, directory)
    )
    for name, tensor in weights.items():
        np.testing.assert_allclose(found[name], tensor, atol=1e-5, rtol=0, err_msg=name)


def test_dead_peer_fails_the_attempt_for_another_one_to_go_on(jobs, shallow):
    directory = jobs.make(TWO, base=shallow)
    with held(directory) as (process, lines):
        next(lines)
        os.kill(peer_of(process.pid), signal.SIGKILL)
        for _ in lines:
            pass
    outcome = read_json(directory.outcome)
    assert process.returncode == 1
    assert (outcome["state"], outcome["reason"], outcome["retryable"]) == ("failed", "CHILD_FAILED", True)
    assert outcome["message"].startswith("Process 1 of 0 to 1 was killed by SIGKILL before the run was over.")


def test_peers_die_with_the_first_process(tmp_path):
    directory = JobDirectory(tmp_path)
    write_json(directory.spec, TWO)
    script = """
import sys
from pathlib import Path
from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.trainer.processes import Peers
print(Peers.start(JobDirectory(Path(sys.argv[1])), 2).processes[0].pid, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        peer = os.pidfd_open(int(process.stdout.readline()))
        process.kill()
    ended(peer)
    assert not directory.outcome.exists()


def test_accelerators_are_shared_out():
    assert device_shares({"CUDA_VISIBLE_DEVICES": "4,5,6,7"}, 2, accelerated=True) == [
        {"CUDA_VISIBLE_DEVICES": "4,5"},
        {"CUDA_VISIBLE_DEVICES": "6,7"},
    ]


def test_without_accelerators_nothing_is_shared_out():
    assert device_shares({}, 2, accelerated=False) == [{}, {}]


def test_accelerators_that_are_not_named_are_refused():
    with pytest.raises(TrainingFailure, match="processes is 2, but the slot's devices are not named"):
        device_shares({}, 2, accelerated=True)


def test_accelerators_that_cannot_be_shared_evenly_are_refused():
    with pytest.raises(TrainingFailure, match="the slot's 3 devices cannot be shared evenly"):
        device_shares({"CUDA_VISIBLE_DEVICES": "0,1,2"}, 2, accelerated=True)


def test_seat_is_read_from_the_environment():
    assert Seat.of({"TUNIX_RT_PEER": "1 2 127.0.0.1:99"}) == Seat(1, 2, "127.0.0.1:99")
    assert Seat.of({}) is None


@pytest.mark.parametrize(
    ("spec", "count"), [({"sharding": {"processes": 3}}, 3), ({}, 1), ({"sharding": 5}, 1), ([], 1)]
)
def test_processes_are_those_of_the_spec(tmp_path, spec, count):
    directory = JobDirectory(tmp_path)
    write_json(directory.spec, spec)
    assert process_count(directory) == count
