"""Specs from YAML and JSON: every field that is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.failures import CommandError
from tunix_rt.standalone.spec_file import read_spec
from tunix_rt.v1 import run_pb2

YAML = """
model: models/smollm2/versions/v1
dataset: datasets/golden
steps: 12
lora: {rank: 8, targets: [q_proj, v_proj]}
batch_size: 4
max_length: 128
optimizer: {learning_rate: 1e-3, decay: LINEAR, weight_decay: 0}
evaluate_after:
  - dataset: datasets/golden
    decoding: {max_tokens: 64}
"""


def violations(tmp_path: Path, values: object) -> dict[str, str]:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InvalidArgument) as caught:
        read_spec(path, run_pb2.RunSpec())
    return {violation.field: violation.description for violation in caught.value.violations}


def test_a_yaml_spec_fills_the_message(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(YAML)
    spec = read_spec(path, run_pb2.RunSpec())
    assert spec.steps == 12
    assert spec.lora.targets == ["q_proj", "v_proj"]
    assert spec.optimizer.learning_rate == 1e-3
    assert spec.optimizer.decay == run_pb2.OptimizerSpec.LINEAR
    assert spec.optimizer.HasField("weight_decay")
    assert spec.evaluate_after[0].decoding.max_tokens == 64


def test_all_unknown_fields_and_wrong_types_are_named_together(tmp_path: Path) -> None:
    found = violations(
        tmp_path,
        {
            "num_steps": 5,
            "steps": "many",
            "optimizer": {"lr": 1e-3, "decay": "SQUARE"},
            "evaluate_after": [{"dataset": 3}],
            "lora": 16,
        },
    )
    assert set(found) == {
        "spec.num_steps",
        "spec.steps",
        "spec.optimizer.lr",
        "spec.optimizer.decay",
        "spec.evaluate_after[0].dataset",
        "spec.lora",
    }
    assert "Did you mean `steps`?" in found["spec.num_steps"]
    assert found["spec.steps"] == "is 'many'; it must be a whole number."
    assert found["spec.optimizer.decay"] == "is 'SQUARE'; it must be one of COSINE, LINEAR, CONSTANT, WSD."
    assert found["spec.lora"] == "is a int; it must be a mapping of fields."


def test_two_of_one_choice_are_an_error(tmp_path: Path) -> None:
    assert violations(tmp_path, {"full": {}, "lora": {}}) == {
        "spec.lora": "excludes `full`; give only one of them."
    }


def test_a_list_in_place_of_the_mapping_is_an_error(tmp_path: Path) -> None:
    assert "must be a mapping" in violations(tmp_path, [1, 2])["spec"]


@pytest.mark.parametrize(("name", "text"), [("a.json", "{"), ("a.yaml", "a: [")])
def test_a_broken_file_is_an_error_that_names_it(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(CommandError, match=f"{name} is not valid"):
        read_spec(path, run_pb2.RunSpec())
