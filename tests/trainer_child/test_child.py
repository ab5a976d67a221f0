"""The training child as a process: a run that was broken off ends exactly like one that was not."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tunix_rt.jobs.directory import JobDirectory, read_json

pytestmark = pytest.mark.timeout(240)  # each starts up to three processes that import JAX

TUNINGS = {"full": {"full": {}}, "lora": {"lora": {"rank": 4}}}
STEPS = 24


def lines_of(directory: JobDirectory) -> list[dict]:
    return [json.loads(line) for line in directory.metrics.read_text().splitlines()]


def measured(lines: list[dict]) -> dict[int, dict[str, float]]:
    """By step, what depends on the model and not on the clock."""
    clock = ("train/tokens_per_second", "train/steps_per_second", "train/step_time")
    return {
        line["step"]: {name: value for name, value in line["values"].items() if name not in clock}
        for line in lines
    }


def weights(directory: JobDirectory) -> bytes:
    return (directory.model / "model.safetensors").read_bytes()


@pytest.fixture(scope="module", params=TUNINGS)
def unbroken(request, jobs) -> tuple[JobDirectory, dict]:
    directory = jobs.make(TUNINGS[request.param])
    assert jobs.run(directory) == {"state": "succeeded"}
    return directory, TUNINGS[request.param]


def test_metrics_have_every_step_once(unbroken):
    lines = lines_of(unbroken[0])
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert set(lines[0]["values"]) == {
        "train/loss",
        "train/learning_rate",
        "train/grad_norm",
        "train/token_accuracy",
        "train/tokens",
        "train/tokens_per_second",
        "train/steps_per_second",
        "train/step_time",
    }


def test_validation_comes_as_asked_and_last(unbroken):
    lines = lines_of(unbroken[0])
    validated = [line["step"] for line in lines if "validation/loss" in line["values"]]
    assert validated == [6, 12, 18, 24]


@pytest.mark.parametrize("unbroken", ["full"], indirect=True)
def test_model_learns(unbroken):
    lines = lines_of(unbroken[0])
    assert lines[-1]["values"]["train/loss"] < 0.7 * lines[0]["values"]["train/loss"]


def test_the_newest_checkpoint_is_kept(unbroken):
    assert [step for step, _ in unbroken[0].complete_checkpoints()] == [STEPS]


def test_facts_are_counted(unbroken):
    directory, tuning = unbroken
    facts = read_json(directory.facts)
    assert (facts["steps"], facts["traces"], facts["validation_traces"]) == (STEPS, 32, 8)
    assert facts["train_tokens"] > facts["weighted_tokens"] > 0
    trained = load_file(directory.checkpoint(STEPS) / "trained.safetensors")
    assert facts["trainable_parameters"] == sum(tensor.size for tensor in trained.values())
    assert (facts["trainable_parameters"] == facts["parameters"]) == ("full" in tuning)


@pytest.mark.parametrize("unbroken", ["full"], indirect=True)
def test_killed_and_resumed_run_equals_unbroken_run(unbroken, jobs):
    directory, tuning = unbroken
    broken = jobs.make(tuning)
    with jobs.held(broken) as (process, lines):
        seen = [next(lines) for _ in range(11)]  # a checkpoint is there before step 11: the save of 10 waits
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not broken.outcome.exists()
    check_resumed(directory, resume(jobs, tuning, broken.checkpoints), seen)


@pytest.mark.parametrize("unbroken", ["lora"], indirect=True)
def test_stopped_and_resumed_run_equals_unbroken_run(unbroken, jobs):
    directory, tuning = unbroken
    broken = jobs.make(tuning)
    with jobs.held(broken) as (process, lines):
        seen = [next(lines) for _ in range(6)]
        process.terminate()
        seen += lines
    assert process.returncode == 0
    assert read_json(broken.outcome) == {"state": "stopped", "step": seen[-1]["step"]}
    assert broken.complete_checkpoints()[-1][0] == seen[-1]["step"] < STEPS
    assert not broken.model.exists()
    check_resumed(directory, resume(jobs, tuning, broken.checkpoints), seen)


def resume(jobs, tuning: dict, checkpoints: Path) -> JobDirectory:
    resumed = jobs.make(tuning, checkpoints=checkpoints)
    assert jobs.run(resumed) == {"state": "succeeded"}
    return resumed


def check_resumed(unbroken: JobDirectory, resumed: JobDirectory, seen: list[dict]) -> None:
    """The two attempts' measurements are those of the unbroken run, and so are the weights' bytes."""
    continued = measured(lines_of(resumed))
    assert 1 < min(continued) <= seen[-1]["step"] + 1
    assert {**measured(seen), **continued} == measured(lines_of(unbroken))
    assert weights(resumed) == weights(unbroken)
