"""A training job inside this process: what it makes, and how it refuses what it cannot train."""

from __future__ import annotations

import json
import shutil
import signal
from itertools import pairwise

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tunix_rt.jobs.directory import read_json
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.traces.trace import Trace
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.inputs import read_inputs
from tunix_rt.trainer.job import main
from tunix_rt.trainer.training import train

pytestmark = pytest.mark.usefixtures("compile_quickly")

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


def test_a_run_stopped_within_a_validation_goes_on_with_it_and_measures_the_same(jobs):
    changes = {**SHORT, "validate_every": 3, "batch_size": 1}
    whole, broken = jobs.make(changes), jobs.make(changes)
    run(whole)
    asked = iter([False] * 9 + [True])  # before training, before and after each step, then between batches
    assert run(broken, lambda: next(asked, True)) == {"state": "stopped", "step": 3}
    assert last_values(broken)["step"] == 2
    assert run(broken) == {"state": "succeeded"}
    names = ("train/loss", "validation/loss")
    assert [last_values(each)["values"][name] for each in (broken,) for name in names] == [
        last_values(whole)["values"][name] for name in names
    ]


def last_values(directory):
    return json.loads(directory.metrics.read_text().splitlines()[-1])


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


def test_gpt2_is_tuned_by_an_adapter_of_its_fused_projection(jobs, tmp_path):
    base = tiny_of("gpt2", tmp_path)
    directory = jobs.make({**SHORT, "steps": 8, "lora": {"rank": 2, "alpha": 6, "targets": []}}, base=base)
    assert run(directory) == {"state": "succeeded"}
    first, *_, last = losses_of(directory)
    assert last < first
    before, after = (load_file(each / "model.safetensors") for each in (base, directory.model))
    adapter = load_file(directory.model / "adapter" / "adapter_model.safetensors")
    name = "transformer.h.0.attn.c_attn"
    a, b = (adapter[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    change = after[f"{name}.weight"] - before[f"{name}.weight"]
    np.testing.assert_allclose(change.T, 3 * b @ a, atol=1e-6)


def test_gemma2_is_tuned_whole_and_stays_a_gemma2(jobs, tmp_path):
    directory = jobs.make({**SHORT, "steps": 8}, base=tiny_of("gemma2", tmp_path))
    assert run(directory) == {"state": "succeeded"}
    first, *_, last = losses_of(directory)
    assert last < first
    assert read_json(directory.model / "config.json")["architectures"] == ["Gemma2ForCausalLM"]


def tiny_of(family, tmp_path):
    texts = ["Calculate 3 + 4.", "3 + 4 = 7", "The answer is 7."] * 5
    make_tiny_model(tmp_path / family, texts, hidden_size=32, num_layers=2, family=family)
    return tmp_path / family


def losses_of(directory):
    return [json.loads(line)["values"]["train/loss"] for line in directory.metrics.read_text().splitlines()]


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
    with pytest.raises(TrainingFailure, match="TOO_LONG: 1 traces, such as the-long-one") as caught:
        jobs.make({**SHORT, "validate_every": 1}, rows=rows)
    assert caught.value.reason == "ROWS_INVALID"


def test_warmup_longer_than_the_epochs_is_refused(jobs):
    optimizer = {"learning_rate": 0.01, "warmup_steps": 500}
    failure = failure_of(jobs.make({**SHORT, "steps": 0, "epochs": 1, "optimizer": optimizer}))
    assert failure.reason == "INVALID_FIELDS"
    assert "warmup_steps is 500; the run has only" in failure.message


def test_line_of_a_trace_without_answer_is_named(jobs):
    with pytest.raises(TrainingFailure, match="line 1: final_answer") as caught:
        jobs.make(SHORT, rows=[(Trace("bare", "Add."), "train")])
    assert caught.value.reason == "TRACES_INVALID"


def test_empty_split_is_an_error_that_names_the_splits(jobs):
    rows = [(Trace("t", "Add 1 and 1.", (), "2"), "train")]
    with pytest.raises(TrainingFailure, match="'validation'; its splits are train") as caught:
        jobs.make({**SHORT, "validate_every": 1}, rows=rows)
    assert caught.value.reason == "SPLIT_EMPTY"


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


WATCHED = {
    "steps": 20,
    "validate_every": 2,
    "checkpoint_every": 1,
    "retention": {"keep_last": 100},
    "lora": {"rank": 2, "targets": ["v_proj"]},
    "ema_decay": 0.5,
    "early_stopping": {"patience": 4, "min_delta": 10.0},
    "optimizer": {"learning_rate": 0.01, "spikes": {"ratio": 1.001, "window": 4}},
}


@pytest.fixture(scope="module")
def stopped_early(jobs, compile_quickly):
    directory = jobs.make(WATCHED)
    return directory, run(directory)


def metrics_of(directory):
    return [json.loads(line) for line in directory.metrics.read_text().splitlines()]


def test_run_that_no_longer_gets_better_ends_and_says_why(stopped_early):
    directory, outcome = stopped_early
    assert (outcome["state"], outcome["step"]) == ("succeeded", 10)
    assert outcome["stopped_early"].startswith("validation/loss was best with ")
    assert outcome["stopped_early"].endswith(" at step 2; 4 validations since were not better")
    assert metrics_of(directory)[-1]["step"] == directory.complete_checkpoints()[-1][0] == 10
    assert directory.model.exists()


def test_skipped_steps_are_counted_and_shown(stopped_early):
    found = [line["values"]["train/skipped_steps"] for line in metrics_of(stopped_early[0])]
    assert found[:4] == [0, 0, 0, 0]
    assert found[-1] > 0


def test_skipped_step_counts_no_tokens(stopped_early):
    lines = metrics_of(stopped_early[0])
    for before, after in pairwise(lines):
        skipped = after["values"]["train/skipped_steps"] > before["values"]["train/skipped_steps"]
        assert (after["values"]["train/tokens"] == before["values"]["train/tokens"]) == skipped


@pytest.mark.parametrize("last", [7, 10], ids=["before the end", "at the end"])
def test_resumed_run_skips_and_stops_where_the_unbroken_one_did(stopped_early, jobs, last):
    directory, outcome = stopped_early
    resumed = jobs.make(WATCHED, checkpoints=directory.checkpoints)
    for step, folder in resumed.complete_checkpoints():
        if step > last:
            shutil.rmtree(folder)
    assert run(resumed) == outcome
    tail = [line["values"]["train/skipped_steps"] for line in metrics_of(resumed)]
    assert tail == [line["values"]["train/skipped_steps"] for line in metrics_of(directory)][last:]
    weights = [(each.model / "model.safetensors").read_bytes() for each in (resumed, directory)]
    assert weights[0] == weights[1]


def test_average_is_exported_in_place_of_the_weights(stopped_early):
    directory, _ = stopped_early
    exported = load_file(directory.model / "adapter" / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight"
    averaged, trained = (
        load_file(directory.checkpoint(10) / f"{tree}.safetensors")["layers/0/v/lora_b/value"].T
        for tree in ("averaged", "trained")
    )
    np.testing.assert_array_equal(exported[name], averaged)
    assert not np.array_equal(exported[name], trained)


def test_too_many_skipped_steps_in_a_row_fail_the_run(jobs):
    spikes = {"ratio": 1.0001, "window": 4, "max_in_a_row": 1}
    optimizer = {"learning_rate": 1.0, "decay": "CONSTANT", "spikes": spikes}
    failure = failure_of(jobs.make({**SHORT, "steps": 40, "lora": WATCHED["lora"], "optimizer": optimizer}))
    assert failure.reason == "GRADIENT_SPIKES"
    assert " is number 2 in a row that is skipped: its gradient norm is " in failure.message
    assert "sum-" in failure.message


def test_device_without_bfloat16_is_said(jobs):
    lines = []
    adapters = {"rank": 2, "targets": ["v_proj"]}
    directory = jobs.make({**SHORT, "steps": 1, "lora": adapters, "compute_type": "BFLOAT16"})
    train(directory, lambda: False, report=lines.append)
    assert "cpu cpu has no fast BFLOAT16: steps may take longer than with FLOAT32" in lines


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
    directory = jobs.make({"num_steps": 5}, render=False)
    assert main([str(directory.root)]) == 1
    message = "spec.json: num_steps: is unknown; remove it."
    outcome = {"state": "failed", "reason": "INVALID_FIELDS", "message": message, "retryable": False}
    assert read_json(directory.outcome) == outcome
    assert message in capsys.readouterr().out


def test_child_needs_one_directory(capsys):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
