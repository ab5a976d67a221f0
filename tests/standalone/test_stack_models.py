"""Models through the command line and a real stack: import, train, evaluate, generate, download."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.timeout(240)

SPEC = """
steps: 4
batch_size: 2
max_length: 256
full: {}
optimizer: {learning_rate: 1e-3}
checkpoint_every: 2
evaluate_after:
  - dataset: datasets/golden
    decoding: {max_tokens: 8}
"""


@pytest.fixture
def model(command: Callable, tiny_directory: Path) -> str:
    return str(command("models", "import", str(tiny_directory), "--id", "tiny", "--json").json["name"])


@pytest.fixture
def dataset(command: Callable) -> str:
    return str(command("datasets", "create", "golden", "--generator", "golden@2", "--json").json["name"])


def test_the_same_model_again_is_the_same_version(
    command: Callable, model: str, tiny_directory: Path
) -> None:
    again = command("models", "import", str(tiny_directory), "--id", "tiny", "--json").json
    assert again["name"] == model == "models/tiny/versions/v1"
    assert again["provenance"]["conversion"]
    assert again["architecture"] == "LlamaForCausalLM"


def test_a_model_with_a_missing_tensor_is_named_and_not_created(
    command: Callable, tiny_directory: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny_directory, broken)
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, broken / "model.safetensors")
    answer = command("models", "import", str(broken), "--id", "broken", "--json")
    assert answer.error["reason"] == "MODEL_INVALID"
    assert "model.layers.1.mlp.up_proj.weight" in json.dumps(answer.error["violations"])
    listed = command("models", "list", "--json").json
    assert not [v for v in listed.get("model_versions", []) if v["name"].startswith("models/broken/")]


def test_a_download_is_byte_for_byte_what_was_imported(
    command: Callable, model: str, tiny_directory: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    answer = command("models", "download", "tiny", str(target), "--json").json
    assert {file["path"] for file in answer["files"]} >= {"config.json", "model.safetensors"}
    for file in answer["files"]:
        assert hashlib.sha256((target / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    weights = "model.safetensors"
    assert (target / weights).read_bytes() == (tiny_directory / weights).read_bytes()


def test_a_spec_with_unknown_fields_creates_no_run(
    command: Callable, model: str, dataset: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("num_steps: 5\nbatch_size: 2\n")
    answer = command("train", "--spec", str(path), "--model", model, "--dataset", dataset, "--json")
    assert [violation["field"] for violation in answer.error["violations"]] == ["spec.num_steps"]


def test_zero_steps_are_refused_by_the_trainer(command: Callable, model: str, dataset: str) -> None:
    answer = command("train", "--model", model, "--dataset", dataset, "--steps", "0", "--json")
    assert answer.error["code"] == "INVALID_ARGUMENT"
    assert any("steps" in violation["field"] for violation in answer.error["violations"])


def test_the_loop_from_a_spec_to_a_comparison(
    command: Callable, model: str, dataset: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(SPEC)
    splits = command("datasets", "show", dataset, "--json").json["dataset"]["splits"]
    (size,) = [int(split["trace_count"]) for split in splits if split["name"] == "test"]
    base = command("evaluate", model, "--dataset", dataset, "--max-tokens", "8", "--json").json
    assert int(base["result"]["score"]["count"]) == size
    run = command(
        "train", "--spec", str(path), "--model", "tiny", "--dataset", "golden", "--id", "four", "--json",
        "--sample-every", "2", "--set", "samples.max_new_tokens=4", "--profile",
    )  # fmt: skip
    assert run.json["status"]["state"] == "JOB_STATE_SUCCEEDED"
    assert {metric["metric"]: metric["count"] for metric in run.json["metrics"]}["train/loss"] == "4"
    watched = command("runs", "watch", "four", "--json").out.splitlines()
    assert json.loads(watched[0])["run"]["name"] == "runs/four"
    sampled = command("runs", "samples", "four", "--all", "--json").json["samples"]
    assert [(each["index"], each["step"]) for each in sampled[:4]] == [(0, 2), (0, 4), (1, 2), (1, 4)]
    assert "expected" in command("runs", "samples", "four").out
    assert "step 4/4 loss" in command("runs", "logs", "four", "--follow").out
    kept = command("runs", "artifacts", "four", "--kind", "profile", "--download", str(tmp_path / "kept"))
    assert "profile" in kept.out
    assert any((tmp_path / "kept" / "profile").rglob("*.xplane.pb"))
    assert command("runs", "cancel", "four", "--json").json["status"]["state"] == "JOB_STATE_SUCCEEDED"
    shown = command("runs", "watch", "four")
    assert "succeeded" in shown.out
    lines = command(
        "runs", "curves", "four", "--axis", "tokens", "--smoothing", "0.5", "--csv"
    ).out.splitlines()
    assert lines[0] == "run,metric,step,place,value,smoothed"
    assert [line.split(",")[2] for line in lines[1:]] == ["1", "2", "3", "4"]
    assert command("runs", "curves", "four", "--from", "3", "--json").json["curves"][0]["steps"] == ["3", "4"]
    evaluated = command("evaluate", "four", "--dataset", "golden", "--max-tokens", "8")
    assert f"of {size} items" in evaluated.out
    listed = command("evaluations", "list", "--subject", "four", "--json").json["evaluations"]
    assert {entry["spec"]["dataset"] for entry in listed} == {"datasets/golden"}
    details = command("evaluations", "show", listed[0]["name"], "--items", "2", "--json").json
    assert details["evaluation"] == listed[0]
    assert [item.get("position", "0") for item in details["items"]] == ["0", "1"]
    checked = command("evaluations", "verify", listed[0]["name"], "--json").json
    assert checked == {"verified": True, "item_count": str(size), "scorer": "exact-answer@2"}
    board = command("leaderboard", "golden")
    assert "runs/four" in board.out
    assert model in board.out
    compared = command("compare", "tiny", "four")
    assert "exact McNemar p = " in compared.out
    pair = command("compare", "tiny", "four", "--json").json["pairs"][0]
    assert int(pair["count"]) == size
    spoken = command("generate", "four", "What is 2 + 2?", "--max-tokens", "4", "--json").out.splitlines()
    assert json.loads(spoken[-1])["finish_reason"] in {"stop", "length"}
    weights = command("models", "download", "runs/four", str(tmp_path / "tuned"), "--json").json
    assert weights["digest"] == run.json["weights_digest"]


def test_an_adapter_is_imported_on_its_base(
    command: Callable, model: str, tiny_directory: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import save_file

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    tensors = {name.format("A"): np.ones((2, 64), np.float32), name.format("B"): np.ones((64, 2), np.float32)}
    save_file(tensors, adapter / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    made = command("models", "import", str(adapter), "--id", "tuned", "--base", model, "--json").json
    assert made["provenance"]["source"] == "peft"
    assert "adapter/adapter_model.safetensors" in {file["path"] for file in made["files"]}
    refused = command("models", "import", str(tiny_directory), "--id", "wrong", "--base", model, "--json")
    assert refused.error["reason"] == "MODEL_INVALID"


def test_an_unknown_subject_is_neither_a_run_nor_a_model(command: Callable, dataset: str) -> None:
    answer = command("evaluate", "nobody", "--dataset", dataset, "--json")
    assert answer.error["code"] == "NOT_FOUND"
    assert "neither a run nor a model" in answer.error["message"]


def test_every_setting_of_an_evaluation_is_an_option(command: Callable, model: str, dataset: str) -> None:
    options = {
        "--limit": "3",
        "--max-tokens": "6",
        "--temperature": "0.5",
        "--top-k": "9",
        "--top-p": "0.9",
        "--min-p": "0.01",
        "--repetition-penalty": "1.1",
        "--seed": "4",
        "--samples": "2",
        "--few-shot": "1",
        "--few-shot-seed": "5",
        "--answer-pattern": r"= (\d+)",
        "--prompt-template": "Q: {question}",
    }
    flags = [text for option in options.items() for text in option]
    made = command(
        "evaluate",
        model,
        "--dataset",
        dataset,
        *flags,
        "--stop",
        "Q:",
        "--stop",
        "\n\n",
        "--detach",
        "--json",
    ).json
    spec = made["spec"]
    assert spec["decoding"] == {
        "max_tokens": 6,
        "temperature": 0.5,
        "top_k": 9,
        "top_p": 0.9,
        "min_p": 0.01,
        "repetition_penalty": 1.1,
        "seed": "4",
        "stop": ["Q:", "\n\n"],
    }
    assert spec["few_shot"] == {"count": 1, "split": "train", "seed": "5"}
    assert (spec["samples"], spec["limit"], spec["answer_pattern"]) == (2, "3", r"= (\d+)")
    assert spec["prompt_template"] == "Q: {question}"
    refused = command("evaluate", model, "--dataset", dataset, "--samples", "2", "--json")
    assert [each["field"] for each in refused.error["violations"]] == ["evaluation.spec.samples"]


def test_evaluations_by_task_measure_the_same(command: Callable, model: str, dataset: str) -> None:
    spec = ("--dataset", dataset, "--max-tokens", "4", "--limit", "3", "--format", "tags")
    task = command("tasks", "create", "short", *spec, "--json").json["name"]
    by_task = command("evaluate", model, "--task", "short", "--json").json
    written = command("evaluate", model, *spec, "--json").json
    assert by_task["spec"].pop("task") == task == "tasks/short/versions/v1"
    assert by_task["spec"] == written["spec"]
    listed = command("evaluations", "list", "--task", "short", "--json").json["evaluations"]
    assert [each["name"] for each in listed] == [written["name"], by_task["name"]]
    (board,) = command("leaderboard", "--task", task, "--json").json["boards"]
    assert (board["tasks"], board["entries"][0]["evaluation_count"]) == ([task], 2)
    assert task in command("leaderboard", dataset).out
    assert f"by {task}" in command("evaluations", "show", by_task["name"]).out


def test_an_option_beside_a_task_must_say_what_the_task_says(
    command: Callable, model: str, dataset: str
) -> None:
    command("tasks", "create", "strict", "--dataset", dataset, "--max-tokens", "4", "--limit", "3")
    answer = command(
        "evaluate", model, "--task", "strict", "--max-tokens", "5", "--samples", "1", "--limit", "2", "--json"
    )
    assert sorted(each["field"] for each in answer.error["violations"]) == [
        "evaluation.spec.decoding.max_tokens",
        "evaluation.spec.limit",
    ]


def test_a_run_is_evaluated_by_a_task(command: Callable, model: str, dataset: str) -> None:
    command("tasks", "create", "after", "--dataset", dataset, "--max-tokens", "4", "--limit", "2")
    run = command(
        "train", "--model", model, "--dataset", dataset, "--steps", "1", "--format", "tags", "--detach",
        "--evaluate-after", "tasks/after", "--evaluate-after", f"{dataset}:test", "--json",
    ).json  # fmt: skip
    by_task, plain = run["spec"]["evaluate_after"]
    assert (by_task["task"], by_task["format"]) == ("tasks/after/versions/v1", "answer-line")
    assert (plain["format"], plain.get("task")) == ("tags", None)


def test_choices_and_perplexity_need_no_decoding(command: Callable, model: str) -> None:
    made = command("datasets", "create", "choices", "--generator", "choices-eval@1", "--json").json
    chosen = command(
        "evaluate",
        model,
        "--dataset",
        made["name"],
        "--method",
        "multiple-choice",
        "--normalization",
        "bytes",
    )
    assert "of 240 items (wilson)" in chosen.out
    assert "uniform-choice" in chosen.out
    assert "by characters" in chosen.out
    measured = command("evaluate", model, "--dataset", made["name"], "--method", "perplexity", "--json").json
    assert measured["result"]["outcomes"] == {"scored": "240"}
    assert f"{measured['name']} is verified" in command("evaluations", "verify", measured["name"]).out
    board = command("leaderboard", "choices").out
    assert "Perplexity" in board
    (by_section, *_) = command("leaderboard", "choices", "--section", "units", "--json").json["boards"]
    assert int(by_section["entries"][0]["score"]["count"]) < 240
    refused = command("leaderboard", "choices", "--section", "none", "--json")
    assert [each["field"] for each in refused.error["violations"]] == ["section"]
    refused = command(
        *("evaluate", model, "--dataset", "choices", "--method", "perplexity", "--max-tokens", "8", "--json")
    )
    assert [each["field"] for each in refused.error["violations"]] == ["evaluation.spec.decoding.max_tokens"]


def test_tokens_come_with_their_log_probabilities(command: Callable, model: str) -> None:
    answer = command(
        *("generate", model, "What is 2 + 2?", "--max-tokens", "3", "--log-probabilities", "--json")
    )
    tokens = [token for line in answer.out.splitlines() for token in json.loads(line).get("tokens", [])]
    assert len(tokens) == 3
    assert all(token["log_probability"] < 0 for token in tokens)
    several = command(
        *("generate", model, "What is 2 + 2?", "--max-tokens", "3", "--temperature", "1", "--samples", "2")
    )
    assert "sample 1" in several.out
    assert "sample 2" in several.out
