"""A version's whole way on a real stack: train, evaluate, gate, promote, describe, download, open."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from tunix_rt.standalone import model_stage_commands
from tunix_rt.standalone.cli import main
from tunix_rt.standalone.model_views import lineage_trees
from tunix_rt.v1 import model_pb2 as model_pb

pytestmark = pytest.mark.timeout(240)
SPEC = """
steps: 4
batch_size: 2
max_length: 256
full: {}
optimizer: {learning_rate: 1e-3}
"""
DECODING = ("--dataset", "gated", "--max-tokens", "8", "--limit", "8", "--json")


@pytest.fixture(scope="module")
def gated(stack, tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A base with a baseline, and a version made from a run that was evaluated alike."""

    def told(*arguments: str) -> dict:
        with redirect_stdout(StringIO()) as printed:
            assert main([*arguments, "--gateway", stack.record.gateway]) == 0
        return json.loads(printed.getvalue())

    told("datasets", "create", "gated", "--generator", "golden@2", "--json")
    spec = tmp_path_factory.mktemp("gated") / "run.yaml"
    spec.write_text(SPEC)
    base = told("models", "import", str(tiny_directory), "--id", "gated", "--json")["name"]
    old = told("evaluate", base, *DECODING)["name"]
    told("train", "--model", base, "--dataset", "gated", "--spec", str(spec), "--id", "gated-run", "--json")
    new = told("evaluate", "runs/gated-run", *DECODING)["name"]
    made = told("runs", "promote", "gated-run", "--as", "gated", "--json")
    assert made["evaluations"] == [new]
    told("models", "baseline", "gated", old, "--margin", "0.9", "--reason", "as agreed", "--json")
    return {"base": base, "old": old, "new": new, "version": made["name"]}


def test_a_run_becomes_a_version_without_copying(command: Callable, gated: dict[str, str]) -> None:
    assert gated["version"] == "models/gated/versions/v2"
    again = command("runs", "promote", "gated-run", "--as", "gated")
    assert "models/gated/versions/v2 is runs/gated-run" in again.out
    assert f"evidence: {gated['new']}" in again.out


def test_the_gate_is_checked_and_a_version_promoted(command: Callable, gated: dict[str, str]) -> None:
    checked = command("models", "check", "gated", gated["new"])
    assert (checked.code, "holds against" in checked.out) == (0, True)
    assert command("models", "promote", "gated@v2", "--json").json["stage"] == "MODEL_STAGE_PRODUCTION"
    listed = command("models", "list", "--model", "gated").out
    assert "production" in listed
    events = command("models", "events", "gated", "--json").json["events"]
    assert events[0]["description"].startswith("v2: none → production; gate holds")
    assert events[1]["reason"] == "as agreed"


def test_a_gate_that_does_not_hold_ends_with_1(command: Callable, gated: dict[str, str]) -> None:
    command("models", "baseline", "gated", gated["old"], "--margin", "0.001")
    try:
        checked = command("models", "check", "gated", gated["new"])
        assert (checked.code, "does not hold" in checked.out) == (1, True)
        assert "is not over" in checked.out
    finally:
        command("models", "baseline", "gated", gated["old"], "--margin", "0.9")
    assert "0.9" in command("models", "baseline", "gated").out


def test_an_alias_is_a_model_for_all_commands(
    command: Callable, gated: dict[str, str], tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoTokenizer

    command("models", "alias", "gated@champion", "v2")
    assert "champion → v2" in command("models", "list", "--by-model").out
    command("models", "download", "gated@champion", str(tmp_path / "champion"))
    config = AutoConfig.from_pretrained(tmp_path / "champion")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "champion")
    assert (config.model_type, config.num_hidden_layers) == ("llama", 2)
    text = "What is 1 + 2?"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() == text
    command("models", "alias", "gated@champion", "--remove", "--reason", "done")
    assert command("models", "download", "gated@champion", str(tmp_path / "none"), "--json").error[
        "reason"
    ] == ("RESOURCE_NOT_FOUND")


def test_the_services_store_the_version_of_an_alias(command: Callable, stack, gated: dict[str, str]) -> None:
    from tunix_rt.standalone.connection import connect
    from tunix_rt.v1 import evaluator_service_pb2, trainer_service_pb2

    command("models", "alias", "gated@old", "v1")
    with connect(stack.record.gateway) as connection:
        request = evaluator_service_pb2.CreateEvaluationRequest()
        spec = request.evaluation.spec
        spec.subject, spec.dataset, spec.limit = "models/gated/aliases/old", "datasets/gated", 1
        spec.decoding.max_tokens = 1
        made = connection.evaluator.CreateEvaluation(request, timeout=30)
        run = trainer_service_pb2.CreateRunRequest()
        run.run.spec.model, run.run.spec.dataset, run.run.spec.steps = "models/gated", "datasets/gated", 1
        run.run.spec.batch_size, run.run.spec.max_length = 2, 256
        run.run.spec.full.SetInParent()
        run.run.spec.optimizer.learning_rate = 1e-3
        trained = connection.trainer.CreateRun(run, timeout=30)
        connection.trainer.CancelRun(trainer_service_pb2.CancelRunRequest(name=trained.name), timeout=30)
    assert made.spec.subject == gated["base"]
    assert trained.spec.model == gated["version"]


def test_the_card_is_printed_and_written(command: Callable, gated: dict[str, str], tmp_path: Path) -> None:
    printed = command("models", "card", "gated@v2").out
    assert "`runs/gated-run` trained `models/gated/versions/v1`" in printed
    command("models", "card", "gated@v2", "--output", str(tmp_path / "README.md"))
    assert (tmp_path / "README.md").read_text().splitlines()[0] == "---"


def test_the_lineage_is_drawn(command: Callable, gated: dict[str, str]) -> None:
    shown = command("models", "lineage", "gated@v2").out
    for name in ("comes from", "runs/gated-run", gated["new"], "datasets/gated", gated["base"]):
        assert name in shown
    nodes = command("models", "lineage", gated["old"], "--json").json["nodes"]
    assert [node["kind"] for node in nodes if node["name"] == gated["old"]] == ["evaluation"]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("alias", "gated", "v1"), "alias"),
        (("alias", "gated@champion"), "version"),
        (("baseline", "gated", "a", "--floor", "units"), "floor"),
        (("list", "--by-model", "--model", "gated"), "model"),
    ],
)
def test_bad_arguments_are_named(command: Callable, arguments: tuple[str, ...], field: str) -> None:
    answer = command("models", *arguments, "--json")
    assert [each["field"] for each in answer.error["violations"]] == [field]


def test_a_model_without_a_baseline_says_how_to_set_one(command: Callable, gated: dict[str, str]) -> None:
    answer = command("models", "baseline", "nobody", "--json")
    assert "tunix-rt models baseline" in answer.error["message"]


def test_a_floor_may_name_another_part() -> None:
    floor = model_stage_commands.parse_floor("family=chain_sum=0.8")
    assert (floor.section, floor.min_score) == ("family=chain_sum", 0.8)


def test_what_stands_twice_in_a_lineage_is_drawn_out_once() -> None:
    edges = {"d": "bc", "b": "a", "c": "a", "a": "z", "z": ""}
    nodes = [model_pb.LineageNode(name=name, kind="run", sources=sources) for name, sources in edges.items()]
    (tree,) = lineage_trees(model_pb.Lineage(nodes=nodes), "d")
    (first,), (second,) = (branch.children for branch in tree.children)
    assert (len(first.children), len(second.children)) == (1, 0)
    assert str(second.label).endswith("…")
