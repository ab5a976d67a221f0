"""A training job inside this process: what it makes, and how it refuses what it cannot train."""

from __future__ import annotations

import json
import shutil
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tunix_rt.jobs.directory import read_json
from tunix_rt.lm.errors import ModelError
from tunix_rt.traces.trace import Trace
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.inputs import read_inputs
from tunix_rt.trainer.job import main
from tunix_rt.trainer.training import train

SHORT = {
    "steps": 3,
    "optimizer": {"learning_rate": 0.01},
    "validate_every": 0,
    "checkpoint_every": 0,
}


def run(directory, stop_asked=lambda: False):
    return train(directory, stop_asked, report=lambda line: None)


def failure_of(directory) -> TrainingFailure:
    with pytest.raises(TrainingFailure) as caught:
        run(directory)
    assert not directory.model.exists()
    return caught.value


def test_tuned_model_can_be_tuned_again(jobs):
    first = jobs.make(SHORT)
    assert run(first) == {"state": "succeeded"}
    second = jobs.make(SHORT, base=first.model)
    assert run(second) == {"state": "succeeded"}
    assert read_json(first.facts)["base_digest"] != read_json(second.facts)["base_digest"]


def test_adapters_alone_are_trained_and_then_merged(jobs, tiny_model):
    directory = jobs.make({**SHORT, "lora": {"rank": 2, "alpha": 6, "targets": ["q_proj"]}})
    run(directory)
    base, tuned = (load_file(folder / "model.safetensors") for folder in (tiny_model, directory.model))
    adapter = load_file(directory.model / "adapter" / "adapter_model.safetensors")
    changed = {name for name in base if not np.array_equal(base[name], tuned[name])}
    assert changed == {name for name in base if "q_proj" in name}
    for name in changed:
        a, b = (
            adapter[f"base_model.model.{name.removesuffix('.weight')}.lora_{part}.weight"] for part in "AB"
        )
        np.testing.assert_allclose(tuned[name] - base[name], 3 * b @ a, atol=1e-6)


def test_adapters_are_trained_with_recomputed_activations(jobs):
    lora = {"lora": {"rank": 2, "targets": ["q_proj"]}}
    stored, recomputed = (jobs.make({**SHORT, **lora, "remat": remat}) for remat in (False, True))
    for directory in (stored, recomputed):
        assert run(directory) == {"state": "succeeded"}
    expected, found = (load_file(each.model / "model.safetensors") for each in (stored, recomputed))
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name], tensor, atol=1e-5, rtol=0, err_msg=name)


def test_stop_before_the_first_step_saves_nothing(jobs):
    directory = jobs.make(SHORT)
    assert run(directory, stop_asked=lambda: True) == {"state": "stopped", "step": 0}
    assert directory.complete_checkpoints() == []


def test_epochs_become_steps(jobs):
    inputs = read_inputs(jobs.make({**SHORT, "steps": 0, "epochs": 0.5}))
    assert inputs.plan.steps == -(-inputs.batches.rows // 4)


def test_metrics_of_a_longer_earlier_process_are_cut_to_the_checkpoint(jobs):
    directory = jobs.make({**SHORT, "checkpoint_every": 2})
    run(directory)
    shutil.rmtree(directory.checkpoint(3))
    run(directory)
    lines = directory.metrics.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_checkpoint_of_another_spec_is_refused(jobs):
    directory = jobs.make(SHORT)
    run(directory)
    other = jobs.make({**SHORT, "seed": 99}, checkpoints=directory.checkpoints)
    assert "another spec" in failure_of(other).message


@pytest.mark.parametrize("split", ["train", "validation"])
def test_too_long_trace_is_refused_before_training(jobs, split):
    rows = [
        (Trace("short", "Add 1 and 1.", (), "2"), "validation" if split == "train" else "train"),
        (Trace("the-long-one", "Add. " * 200, (), "2"), split),
    ]
    directory = jobs.make({**SHORT, "validate_every": 1}, rows=rows)
    assert "the-long-one" in failure_of(directory).message
    assert not directory.metrics.exists()


def test_warmup_longer_than_the_epochs_is_refused(jobs):
    optimizer = {"learning_rate": 0.01, "warmup_steps": 500}
    failure = failure_of(jobs.make({**SHORT, "steps": 0, "epochs": 1, "optimizer": optimizer}))
    assert failure.reason == "INVALID_FIELDS"
    assert "warmup_steps is 500; the run has only" in failure.message


def test_line_of_a_trace_without_answer_is_named(jobs):
    failure = failure_of(jobs.make(SHORT, rows=[(Trace("bare", "Add."), "train")]))
    assert failure.reason == "TRACES_INVALID"
    assert "line 1: final_answer" in failure.message


def test_empty_split_is_an_error_that_names_the_splits(jobs):
    rows = [(Trace("t", "Add 1 and 1.", (), "2"), "train")]
    failure = failure_of(jobs.make({**SHORT, "validate_every": 1}, rows=rows))
    assert failure.reason == "SPLIT_EMPTY"
    assert "'validation'; its splits are train" in failure.message


def test_max_length_beyond_the_model_is_refused(jobs):
    assert "positions" in failure_of(jobs.make({**SHORT, "max_length": 8192})).message


def test_non_finite_loss_stops_before_the_update_and_names_the_batch(jobs, tiny_model, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * np.float32(np.inf)
    save_file(tensors, broken / "model.safetensors")
    failure = failure_of(jobs.make(SHORT, base=broken))
    assert failure.reason == "NON_FINITE_LOSS"
    assert failure.message.startswith("Step 1 has loss nan")
    assert "sum-" in failure.message


def test_missing_tensor_is_named(jobs, tiny_model, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, broken / "model.safetensors")
    with pytest.raises(ModelError, match=r"missing: model\.norm\.weight"):
        run(jobs.make(SHORT, base=broken))


@pytest.fixture
def keep_signals():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def test_failure_is_an_outcome_and_exit_code_1(jobs, keep_signals, capsys):
    directory = jobs.make({"num_steps": 5})
    assert main([str(directory.root)]) == 1
    message = "spec.json: num_steps: is unknown; remove it."
    outcome = {"state": "failed", "reason": "INVALID_FIELDS", "message": message, "retryable": False}
    assert read_json(directory.outcome) == outcome
    assert message in capsys.readouterr().out


def test_child_needs_one_directory(capsys):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
