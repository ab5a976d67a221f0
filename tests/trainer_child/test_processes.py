"""A run in two processes on this host: it trains as in one, and ends as one."""

from __future__ import annotations

import json
import os
import select
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tunix_rt.jobs.directory import JobDirectory, read_json, write_json
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.processes import Seat, device_shares, process_count
from tunix_rt.trainer.training import train

pytestmark = pytest.mark.timeout(240)  # some start three processes that import JAX

SPEC = {
    "steps": 3,
    "optimizer": {"learning_rate": 0.001},
    "validate_every": 0,
    "checkpoint_every": 0,
}
TWO = {**SPEC, "sharding": {"processes": 2, "fsdp": 2}}
LONG = {**TWO, "steps": 1000}


def peer_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def losses(directory: JobDirectory) -> dict[int, float]:
    lines = map(json.loads, directory.metrics.read_text().splitlines())
    return {line["step"]: line["values"]["train/loss"] for line in lines}


def test_two_processes_stop_together(jobs):
    directory = jobs.make(LONG)
    with jobs.held(directory) as (process, lines):
        seen = [next(lines) for _ in range(3)]
        peer = os.pidfd_open(peer_of(process.pid))
        process.terminate()
        seen += lines
    assert process.returncode == 0, directory.log.read_text()
    ended(peer)
    reached = seen[-1]["step"]
    assert read_json(directory.outcome) == {"state": "stopped", "step": reached}
    assert [step for step, _ in directory.complete_checkpoints()] == [reached]
    facts = read_json(directory.facts)
    assert (facts["devices"], facts["mesh"], facts["processes"]) == (2, {"data": 1, "fsdp": 2}, 2)


def test_two_processes_train_as_one(jobs):
    unbroken, directory = jobs.make(SPEC), jobs.make(TWO)
    assert train(unbroken, lambda: False, report=lambda _: None) == {"state": "succeeded"}
    assert jobs.run(directory) == {"state": "succeeded"}, directory.log.read_text()
    assert losses(directory) == pytest.approx(losses(unbroken), rel=1e-6)
    expected, found = (load_file(each.model / "model.safetensors") for each in (unbroken, directory))
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name], tensor, atol=1e-5, rtol=0, err_msg=name)


def test_dead_peer_fails_the_attempt_for_another_one_to_go_on(jobs):
    directory = jobs.make(LONG)
    with jobs.held(directory) as (process, lines):
        next(lines)
        os.kill(peer_of(process.pid), signal.SIGKILL)
        for _ in lines:
            pass
    outcome = read_json(directory.outcome)
    assert process.returncode == 1
    assert (outcome["state"], outcome["reason"], outcome["retryable"]) == ("failed", "CHILD_FAILED", True)
    assert outcome["message"].startswith("Process 1 of 0 to 1 was killed by SIGKILL before the run was over.")


def test_peers_die_with_the_first_process(jobs):
    directory = jobs.make(LONG)
    with jobs.held(directory) as (process, lines):
        next(lines)
        peer = os.pidfd_open(peer_of(process.pid))
        process.kill()
    ended(peer)
    assert not directory.outcome.exists()


def ended(process: int) -> None:
    """Wait for the end of a process that is not our child."""
    waiting = select.poll()
    waiting.register(process, select.POLLIN)
    assert waiting.poll(10_000), "it has not ended"
    os.close(process)


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
