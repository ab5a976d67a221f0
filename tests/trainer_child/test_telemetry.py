"""The measurements of a step against a count by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tunix_rt.jobs.directory import read_json
from tunix_rt.lm.config import ModelConfig
from tunix_rt.trainer.batches import Example, fill_batch
from tunix_rt.trainer.flops import step_flops
from tunix_rt.trainer.job import main
from tunix_rt.trainer.telemetry import Pace, log_line, perplexity

CONFIG = ModelConfig(
    vocab_size=50,
    hidden_size=8,
    intermediate_size=16,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    max_positions=64,
)
# q 8x8, k and v 4x8, o 8x8, gate, up and down 16x8, in two layers
LAYER_WEIGHTS = 2 * (64 + 32 + 32 + 64 + 3 * 128)


def test_operations_of_full_tuning_are_six_for_each_weight_and_token():
    flops = step_flops(CONFIG)
    assert flops.per_token == 6 * LAYER_WEIGHTS
    assert flops.per_weighted == 6 * 50 * 8


def test_frozen_weights_cost_four_and_adapters_six():
    flops = step_flops(CONFIG, adapter_parameters=100)
    assert flops.per_token == 4 * LAYER_WEIGHTS + 600
    assert flops.per_weighted == 4 * 50 * 8


def test_attention_is_two_products_of_width_eight_in_each_layer_three_times():
    assert step_flops(CONFIG).per_pair == 3 * 2 * (2 * 8 + 2 * 8)


def test_a_token_sees_itself_and_what_is_before_it_in_its_trace():
    examples = [Example("a", np.arange(3), np.ones(3)), Example("b", np.arange(2), np.ones(2))]
    batch = fill_batch(examples, [[0, 1]], batch_size=2, max_length=8)
    assert batch.visible_pairs == (1 + 2 + 3) + (1 + 2)


def test_perplexity_of_a_huge_loss_is_infinite():
    assert perplexity(1000.0) == math.inf
    assert perplexity(math.log(4.0)) == pytest.approx(4.0)


def test_the_first_step_does_not_count_in_the_time_left():
    pace = Pace()
    pace.add(100.0)
    assert pace.remaining_seconds(10) is None
    pace.add(2.0)
    pace.add(4.0)
    assert pace.remaining_seconds(10) == 30.0


def test_a_line_of_the_log_says_what_is_left():
    values = {"train/loss": 1.25, "validation/loss": 2.0, "train/tokens_per_second": 820.4}
    assert log_line(12, 40, values, 3725.2) == (
        "step 12/40 loss 1.2500 validation 2.0000 820 tokens/s, 1:02:05 left"
    )


def test_a_run_measures_every_step_and_itself(jobs):
    directory = jobs.make({"steps": 3, "validate_every": 3, "checkpoint_every": 2})
    assert main([str(directory.root)]) == 0
    lines = [json.loads(line)["values"] for line in directory.metrics.read_text().splitlines()]
    assert {
        "train/loss", "train/perplexity", "train/token_accuracy", "train/learning_rate", "train/grad_norm",
        "train/update_norm", "train/epoch", "train/tokens", "train/padding_share", "train/tokens_per_second",
        "train/weighted_tokens_per_second", "train/steps_per_second", "train/flops_per_second",
        "train/step_time", "train/data_time", "train/compute_time", "train/checkpoint_time",
        "train/peak_memory_bytes",
    } <= set(lines[0])  # fmt: skip
    assert {"validation/loss", "validation/perplexity", "validation/token_accuracy"} <= set(lines[2])
    for values in lines:
        parts = values["train/data_time"] + values["train/compute_time"]
        assert parts == pytest.approx(values["train/step_time"])
        assert values["train/perplexity"] == pytest.approx(math.exp(values["train/loss"]))
        assert values["train/weighted_tokens_per_second"] < values["train/tokens_per_second"]
    assert lines[0]["train/checkpoint_time"] == 0.0
    assert lines[2]["train/checkpoint_time"] > 0.0
    assert read_json(directory.facts)["compile_seconds"] > 0


def test_the_norm_of_an_update_is_that_of_the_change(jobs, tiny_model):
    from safetensors.numpy import load_file

    directory = jobs.make({"steps": 1, "validate_every": 0, "optimizer": {"learning_rate": 0.01}})
    assert main([str(directory.root)]) == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_model, directory.model))
    squares = sum(float(((after[name] - before[name]).astype(np.float64) ** 2).sum()) for name in before)
    values = json.loads(directory.metrics.read_text())["values"]
    assert values["train/update_norm"] == pytest.approx(math.sqrt(squares), rel=1e-4)
