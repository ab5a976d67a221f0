"""The training child as a process: what a run leaves in its directory."""

from __future__ import annotations

import json

import pytest
from safetensors.numpy import load_file

from tunix_rt.jobs.directory import JobDirectory, read_json

pytestmark = pytest.mark.timeout(240)

TUNINGS = {"full": {"full": {}}, "lora": {"lora": {"rank": 4}}}
STEPS = 24


def lines_of(directory: JobDirectory) -> list[dict]:
    return [json.loads(line) for line in directory.metrics.read_text().splitlines()]


@pytest.fixture(scope="module", params=TUNINGS)
def unbroken(request, jobs) -> tuple[JobDirectory, dict]:
    directory = jobs.make(TUNINGS[request.param])
    assert jobs.run(directory) == {"state": "succeeded"}
    return directory, TUNINGS[request.param]


def test_metrics_have_every_step_once(unbroken):
    lines = lines_of(unbroken[0])
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert {"train/loss", "train/learning_rate", "train/tokens"} <= set(lines[0]["values"])


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
