"""Every field of a run's spec has an effect: where one is changed, a tiny run shows something else.

A field without a row here fails `test_every_field_has_a_row`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor

from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.traces.text import FORMATS, completion_text
from tunix_rt.traces.trace import Step, Trace
from tunix_rt.trainer.assembly import first_snapshot, make_model, make_program
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.inputs import read_inputs
from tunix_rt.trainer.optimizer import make_optimizer
from tunix_rt.trainer.program import take_apart
from tunix_rt.trainer.telemetry import MACHINE_METRICS
from tunix_rt.trainer.training import train
from tunix_rt.trainer.update import Controls
from tunix_rt.v1.run_pb2 import RunSpec

pytestmark = pytest.mark.usefixtures("compile_quickly")

BASE: dict[str, Any] = {
    "steps": 3,
    "batch_size": 2,
    "max_length": 128,
    "lora": {"rank": 2, "targets": ["v_proj"]},
    "optimizer": {"learning_rate": 0.01},
    "seed": 3,
    "validate_every": 0,
    "checkpoint_every": 0,
}
FULL = {"full": {}, "lora": None}
KEPT = {"retention": {"keep_last": 100}}
SAVED = {"checkpoint_every": 1}
VALIDATED = {"steps": 4, "validate_every": 1}
SPIKES = {"ratio": 1.001, "window": 4, "max_in_a_row": 20}

# Fields whose effect another test shows.
CHILD = "tests/trainer_child/"
SAMPLES = f"{CHILD}test_samples.py::"
ELSEWHERE = {
    "mixture": f"{CHILD}test_training_rows.py::test_a_mixture_trains_on_its_parts_by_weight",
    "mixture.dataset": f"{CHILD}test_training_rows.py::test_a_mixture_trains_on_its_parts_by_weight",
    "mixture.split": f"{CHILD}test_training_rows.py::test_a_mixture_trains_on_its_parts_by_weight",
    "mixture.weight": f"{CHILD}test_training_rows.py::test_the_weight_of_a_part_changes_what_is_trained",
    "batching": f"{CHILD}test_training_rows.py::test_padded_rows_train_other_weights_than_packed_ones",
    "overlong": f"{CHILD}test_rows.py::test_only_the_start_of_the_prompt_is_cut",
    "sharding": f"{CHILD}test_mesh.py::test_facts_tell_the_mesh",
    "sharding.data": f"{CHILD}test_mesh.py::test_losses_are_those_of_one_device",
    "sharding.fsdp": f"{CHILD}test_mesh.py::test_losses_are_those_of_one_device",
    "sharding.processes": f"{CHILD}test_processes.py::test_two_processes_train_as_one",
    "samples": f"{SAMPLES}test_samples_come_every_so_many_steps_and_at_the_last",
    "samples.every": f"{SAMPLES}test_samples_come_every_so_many_steps_and_at_the_last",
    "samples.prompts": f"{SAMPLES}test_the_last_samples_are_what_the_final_model_answers",
    "samples.count": f"{SAMPLES}test_without_prompts_the_first_validation_traces_are_continued",
    "samples.max_new_tokens": f"{SAMPLES}test_the_last_samples_are_what_the_final_model_answers",
    "profile": f"{SAMPLES}test_a_profile_holds_the_steps_asked_for",
    "profile.first_step": f"{SAMPLES}test_a_profile_beyond_the_last_step_ends_with_it",
    "profile.steps": f"{SAMPLES}test_a_profile_holds_the_steps_asked_for",
    "evaluate_after": "tests/registry/test_queue.py::test_evaluations_are_queued_when_the_run_succeeds",
}


@dataclass(frozen=True)
class Row:
    """A change of one field; the base where it is made; what shows the effect."""

    change: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    shown_by: str = "weights"


def optimizer(**fields: Any) -> dict[str, Any]:
    return {"optimizer": {"learning_rate": 0.01, **fields}}


def lora(**fields: Any) -> dict[str, Any]:
    return {"lora": {"rank": 2, "targets": ["v_proj"], **fields}}


def stopping(**fields: Any) -> dict[str, Any]:
    return {**VALIDATED, "early_stopping": {"patience": 1, **fields}}


def spikes(**fields: Any) -> dict[str, Any]:
    return {"steps": 8, **optimizer(spikes={**SPIKES, **fields})}


ROWS: dict[str, Row] = {
    "model": Row({"_base": "other"}),
    "dataset": Row({"_rows": "other"}),
    "train_split": Row({"train_split": "validation"}),
    "validation_split": Row({"validation_split": "train"}, VALIDATED, "metrics"),
    "full": Row(FULL),
    "lora": Row({"full": None, **lora()}, FULL),
    "lora.rank": Row(lora(rank=3)),
    "lora.alpha": Row(lora(alpha=7.0)),
    "lora.targets": Row(lora(targets=["q_proj"])),
    "lora.dropout": Row(lora(dropout=0.5)),
    "steps": Row({"steps": 2}),
    "epochs": Row({"steps": 0, "epochs": 1.0}),
    "batch_size": Row({"batch_size": 3}),
    "max_length": Row({"max_length": 200}),
    "optimizer": Row(optimizer(learning_rate=0.02)),
    "optimizer.learning_rate": Row(optimizer(learning_rate=0.02)),
    "optimizer.warmup_steps": Row(optimizer(warmup_steps=2)),
    "optimizer.decay": Row(optimizer(decay="LINEAR")),
    "optimizer.weight_decay": Row(optimizer(weight_decay=0.5)),
    "optimizer.clip_norm": Row(optimizer(clip_norm=1e-6)),
    "optimizer.beta1": Row(optimizer(beta1=0.5)),
    "optimizer.beta2": Row(optimizer(beta2=0.5)),
    "optimizer.algorithm": Row(optimizer(algorithm="LION")),
    "optimizer.decay_steps": Row(optimizer(decay="WSD", decay_steps=2), optimizer(decay="WSD")),
    "optimizer.final_ratio": Row(optimizer(final_ratio=0.5)),
    "optimizer.epsilon": Row(optimizer(epsilon=0.1)),
    "optimizer.no_decay": Row(
        optimizer(weight_decay=0.5, no_decay=["embedding"]), {**FULL, **optimizer(weight_decay=0.5)}
    ),
    "optimizer.spikes": Row(spikes(), {"steps": 8}),
    "optimizer.spikes.ratio": Row(spikes(ratio=1000.0), spikes()),
    "optimizer.spikes.window": Row(spikes(window=8), spikes()),
    "optimizer.spikes.max_in_a_row": Row(spikes(max_in_a_row=1), spikes(), "outcome"),
    "seed": Row({"seed": 1}),
    "validate_every": Row({"validate_every": 2}, {}, "metrics"),
    "checkpoint_every": Row({"checkpoint_every": 2}, KEPT, "checkpoints"),
    "retention": Row(KEPT, SAVED, "checkpoints"),
    "retention.keep_last": Row({"retention": {"keep_last": 2}}, SAVED, "checkpoints"),
    "retention.keep_every": Row({"retention": {"keep_every": 2}}, {**SAVED, "steps": 3}, "checkpoints"),
    "retention.best_metric": Row(
        {"retention": {"best_metric": "validation/loss"}},
        {**VALIDATED, **FULL, **optimizer(learning_rate=1.0)},
    ),
    "format": Row({"format": "tags"}),
    "system_prompt": Row({"system_prompt": "Add."}),
    "remat": Row({"remat": True}, {}, "program"),
    "micro_batch_size": Row({"micro_batch_size": 1}, {}, "program"),
    "compute_type": Row({"compute_type": "BFLOAT16"}),
    "ema_decay": Row({"ema_decay": 0.5}),
    "early_stopping": Row(stopping(min_delta=100.0), VALIDATED, "metrics"),
    "early_stopping.metric": Row(stopping(metric="validation/token_accuracy"), stopping(), "metrics"),
    "early_stopping.patience": Row(
        stopping(patience=2, min_delta=100.0), stopping(min_delta=100.0), "metrics"
    ),
    "early_stopping.min_delta": Row(stopping(min_delta=100.0), stopping(), "metrics"),
}


def paths(descriptor: Descriptor, prefix: str = "") -> Iterator[str]:
    for each in descriptor.fields:
        yield prefix + each.name
        if each.message_type is not None and each.name != "evaluate_after":
            yield from paths(each.message_type, f"{prefix}{each.name}.")


def test_every_field_has_a_row():
    known = [*ROWS, *ELSEWHERE]
    assert sorted(known) == sorted(paths(RunSpec.DESCRIPTOR))


@pytest.mark.parametrize(("path", "test"), ELSEWHERE.items())
def test_other_test_exists(path, test):
    file, name = test.split("::")
    assert f"def {name}(" in Path(file).read_text()


def sums(first: int = 0) -> list[tuple[Trace, str]]:
    """Additions with one step each, every fifth one for validation."""
    rows = []
    for number in range(first, first + 20):
        total = f"{number} + {number % 7} = {number + number % 7}"
        steps = (Step(0, "compute", total),)
        trace = Trace(f"sum-{number}", f"Add {number} and {number % 7}.", steps, str(number + number % 7))
        rows.append((trace, "train" if number % 5 else "validation"))
    return rows


def observed(directory: JobDirectory) -> dict[str, Any]:
    """What the directory's run leaves, without the readings of the clock."""
    try:
        outcome = train(directory, lambda: False, report=lambda line: None)
    except TrainingFailure as failure:
        return {"outcome": failure.reason}
    lines = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    values = [
        {key: value for key, value in line["values"].items() if key not in MACHINE_METRICS} for line in lines
    ]
    return {
        "outcome": outcome,
        "metrics": values,
        "checkpoints": [step for step, _ in directory.complete_checkpoints()],
        "weights": (directory.model / "model.safetensors").read_bytes(),
    }


def program_text(directory: JobDirectory) -> str:
    """The step that the run compiles."""
    inputs = read_inputs(directory)
    spec, rule = inputs.spec, make_optimizer(inputs.spec.optimizer)
    graph, trained, frozen = take_apart(make_model(directory.base, spec), lora=spec.lora is not None)
    program = make_program(graph, rule, spec)
    carried = first_snapshot(trained, rule, spec).carried
    arrays = program.step_arrays(inputs.batches.batch(0))
    return jax.jit(program.step).lower(carried, frozen, arrays, Controls(np.float32(0))).as_text()


@pytest.fixture(scope="module")
def shown(jobs, tmp_path_factory, compile_quickly):
    """What a run with some changes to BASE shows; each is run once."""
    folder = tmp_path_factory.mktemp("bases")
    texts = [f"{trace.prompt} {completion_text(trace, each)}" for trace, _ in sums() for each in FORMATS]
    for name, seed in (("own", 0), ("other", 1)):
        make_tiny_model(folder / name, texts, seed=seed, hidden_size=32, num_layers=1)

    @cache
    def run(changes: str, what: Callable[[JobDirectory], Any]) -> Any:
        spec = {**BASE, **json.loads(changes)}
        base = folder / spec.pop("_base", "own")
        rows = sums(10 if spec.pop("_rows", None) else 0)
        given = {name: value for name, value in spec.items() if value is not None}
        return what(jobs.make(given, base=base, rows=rows))

    def show(changes: Mapping[str, Any], part: str) -> Any:
        key = json.dumps(changes, sort_keys=True)
        return run(key, program_text) if part == "program" else run(key, observed)[part]

    return show


@pytest.mark.parametrize("path", ROWS)
def test_field_has_its_effect(path, shown):
    row = ROWS[path]
    assert shown(row.base, row.shown_by) != shown({**row.base, **row.change}, row.shown_by)
