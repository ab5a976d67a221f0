"""What a run's checkpoints hold, which ones stay, and what becomes of damaged ones."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from tunix_rt.jobs.directory import read_json
from tunix_rt.traces.jsonl import read_canonical
from tunix_rt.trainer import training
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.inputs import read_inputs
from tunix_rt.trainer.training import train

CHANGES = {
    "steps": 6,
    "optimizer": {"learning_rate": 0.01},
    "validate_every": 0,
    "checkpoint_every": 2,
    "retention": {"keep_last": 100},
}
BEST = {"validate_every": 1, "retention": {"best_metric": "validation/loss"}}


def run(directory) -> list[str]:
    """Trains in this process; the lines of its log."""
    lines: list[str] = []
    assert train(directory, lambda: False, report=lines.append) == {"state": "succeeded"}
    return lines


def steps_of(directory) -> list[int]:
    return [step for step, _ in directory.complete_checkpoints()]


def model_of(directory) -> bytes:
    return (directory.model / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(jobs):
    """A run with all of its checkpoints; to be copied, not changed."""
    directory = jobs.make(CHANGES)
    run(directory)
    return directory


@pytest.fixture
def copy(jobs, whole):
    """A run that has been broken off after step 4 of 6."""
    directory = jobs.make(CHANGES, checkpoints=whole.checkpoints)
    for path in directory.checkpoint(6).iterdir():
        path.unlink()
    directory.checkpoint(6).rmdir()
    return directory


def test_a_checkpoint_says_what_it_is_of(whole):
    inputs = read_inputs(whole)
    state = read_json(whole.checkpoint(6) / "state.json")
    assert (state["step"], state["best"], state["identity"]) == (6, None, inputs.identity)
    epoch, row = divmod(6 * 2, inputs.batches.rows)
    assert state["position"] == {"epoch": epoch, "row": row}
    assert state["spec"]["checkpoint_every"] == 2
    (made_by,) = state["environments"]
    assert set(made_by) == {
        "after_step", "code_version", "jax", "jaxlib", "flax", "optax", "numpy", "device", "mesh",
    }  # fmt: skip
    assert read_json(whole.facts)["code_version"] == made_by["code_version"]


def test_the_manifest_has_every_other_file(whole):
    manifest = read_json(whole.checkpoint(2) / "manifest.json")
    assert manifest["format"] == 1
    assert sorted(manifest["files"]) == ["optimizer.safetensors", "state.json", "trained.safetensors"]
    assert {path.name for path in whole.checkpoint(2).iterdir()} == {"manifest.json", *manifest["files"]}


def test_all_that_were_asked_for_are_kept(whole):
    assert steps_of(whole) == [2, 4, 6]


def test_the_last_and_every_so_many_are_kept(jobs):
    directory = jobs.make({**CHANGES, "steps": 9, "retention": {"keep_last": 2, "keep_every": 4}})
    run(directory)
    assert steps_of(directory) == [4, 8, 9]


@pytest.mark.parametrize("name", ["trained.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(copy, whole, name):
    damaged = copy.checkpoint(4) / name
    content = bytearray(damaged.read_bytes())
    content[-3] ^= 1
    damaged.write_bytes(content)
    lines = run(copy)
    (told,) = [line for line in lines if "damaged" in line]
    assert told.startswith(f"checkpoint 00000004 is damaged and not used: 00000004: {name}: ")
    assert read_json(copy.facts)["resumed_from_step"] == 2
    assert model_of(copy) == model_of(whole)
    assert steps_of(copy) == [2, 4, 6]


def test_without_a_whole_checkpoint_the_run_begins_again_and_says_so(copy, whole):
    for step in (2, 4):
        (copy.checkpoint(step) / "manifest.json").unlink()
    assert "no checkpoint can be used: training begins again at step 1" in run(copy)
    assert model_of(copy) == model_of(whole)


def test_what_a_killed_writer_left_is_no_checkpoint_and_goes(copy, whole):
    (copy.checkpoints / ".00000006-abc" / "00000006").mkdir(parents=True)
    run(copy)
    assert sorted(path.name for path in copy.checkpoints.iterdir()) == ["00000002", "00000004", "00000006"]


def test_a_checkpoint_that_cannot_be_written_fails_the_run_with_its_cause(jobs):
    directory = jobs.make(CHANGES)

    def take_the_folder_away(line: str) -> None:
        if line.startswith("saved step 2 "):
            shutil.rmtree(directory.checkpoints)
            directory.checkpoints.write_text("a file where the folder was")

    with pytest.raises(TrainingFailure) as caught:
        train(directory, lambda: False, report=take_the_folder_away)
    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.message.startswith("A checkpoint could not be written: ")


def test_other_code_is_told_and_remembered(copy, monkeypatch):
    made = training.environment()
    monkeypatch.setattr(training, "environment", lambda: {**made, "jax": "9.9"})
    told = f"step 4: jax {made['jax']} -> 9.9"
    lines = run(copy)
    assert any(line.startswith("after step 4 the bytes may differ") for line in lines)
    assert read_json(copy.facts)["environment_changes"] == told
    state = read_json(copy.checkpoint(6) / "state.json")
    assert [each["after_step"] for each in state["environments"]] == [0, 4]


def test_a_run_of_one_environment_has_no_changes(whole):
    assert "environment_changes" not in read_json(whole.facts)


def test_other_rows_are_refused(whole, jobs):
    other = jobs.make(
        CHANGES,
        rows=read_canonical(whole.traces.read_bytes().splitlines())[2:],
        checkpoints=whole.checkpoints,
    )
    with pytest.raises(TrainingFailure, match=r"Checkpoint \d+ was trained on other rows"):
        run(other)


@pytest.fixture(scope="module")
def best(jobs):
    """A run whose validation gets worse after a few steps, for its rate is far too high."""
    directory = jobs.make({**CHANGES, **BEST, "optimizer": {"learning_rate": 0.5, "decay": "CONSTANT"}})
    lines = run(directory)
    return directory, lines


def losses_of(directory) -> dict[int, float]:
    rows = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    return {row["step"]: row["values"]["validation/loss"] for row in rows}


def test_the_best_step_is_kept_and_is_the_result(best):
    directory, lines = best
    losses = losses_of(directory)
    step = min(losses, key=losses.__getitem__)
    assert 0 < step < 6
    assert steps_of(directory) == [step, 6]
    facts = read_json(directory.facts)
    assert (facts["best_step"], facts["best_value"]) == (step, losses[step])
    assert f"step {step} is the best: its weights are the run's" in lines
    trained = load_file(directory.checkpoint(step) / "trained.safetensors")
    exported = load_file(directory.model / "model.safetensors")
    (norm,) = [array for name, array in trained.items() if name.startswith("norm/scale")]
    np.testing.assert_array_equal(exported["model.norm.weight"], norm)


def test_a_resumed_run_keeps_its_best(best, jobs):
    whole = best[0]
    resumed = jobs.make(read_json(whole.spec), checkpoints=whole.checkpoints)
    run(resumed)
    assert model_of(resumed) == model_of(whole)


def test_a_checkpoint_without_its_best_is_not_gone_on_from(best, jobs):
    whole = best[0]
    resumed = jobs.make(read_json(whole.spec), checkpoints=whole.checkpoints)
    (resumed.checkpoint(read_json(whole.facts)["best_step"]) / "manifest.json").unlink()
    lines = run(resumed)
    assert "no checkpoint can be used: training begins again at step 1" in lines
    assert model_of(resumed) == model_of(whole)
