"""The command line without a stack: help, usage, and a gateway that is away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tunix_rt.standalone.cli import ENTRIES, build_app, main
from tunix_rt.standalone.plan import free_port


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("TUNIX_RT_GATEWAY", address)
    monkeypatch.setenv("COLUMNS", "200")
    return address


def test_help_lists_every_command_without_importing_grpc() -> None:
    program = (
        "import sys; from tunix_rt.standalone.cli import main\n"
        "code = main(['--help']); print('heavy', {'grpc', 'jax', 'transformers'} & set(sys.modules), code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert "heavy set() 0" in done.stdout, done.stderr
    for entry in ENTRIES:
        assert f" {entry.name} " in done.stdout


def test_the_help_of_every_command_is_that_of_its_function() -> None:
    app = build_app("*")
    groups = {group.name: group for group in app.registered_groups}
    commands = {command.name: command for command in app.registered_commands}
    for entry in ENTRIES:
        if entry.name in groups:
            assert groups[entry.name].typer_instance.info.help == entry.help
        else:
            assert commands[entry.name].callback.__doc__ == entry.help


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["runs", "watch", "a"],
        ["evaluate", "runs/a", "--dataset", "golden"],
    ],
)
def test_a_gateway_that_is_away_is_one_clear_error(
    nowhere: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--json"]) == 1
    streams = capsys.readouterr()
    error = json.loads(streams.err)
    assert error["reason"] == "GATEWAY_UNAVAILABLE"
    assert nowhere in error["message"]
    assert streams.out == ""


def test_the_error_for_people_names_the_remedy(nowhere: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list"]) == 1
    assert "`tunix-rt up`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (["datasets", "create", "./golden", "--generator", "golden@2"], "name"),
        (["datasets", "create", "Golden", "--generator", "golden@2"], "name"),
        (["datasets", "create", "golden"], "generator"),
        (["datasets", "show", "data/golden.jsonl"], "name"),
        (["runs", "show", "../runs/a"], "run"),
        (["train", "--model", "./model", "--dataset", "golden", "--steps", "1"], "spec.model"),
        (
            ["train", "--model", "models/a/versions/v1", "--dataset", "./g.jsonl", "--steps", "1"],
            "spec.dataset",
        ),
        (["train", "--full", "--lora-rank", "4"], "spec.lora"),
        (["train", "--decay", "square"], "spec.optimizer.decay"),
        (["train", "--algorithm", "sgd"], "spec.optimizer.algorithm"),
        (["train", "--compute-type", "float16"], "spec.compute_type"),
        (["train", "--full", "--lora-dropout", "0.1"], "spec.lora.dropout"),
        (["train", "--micro-batch-size", "99999999999"], "spec.micro_batch_size"),
        (["train", "--steps", "99999999999999999999"], "spec.steps"),
        (["evaluate", "/tmp/model", "--dataset", "golden"], "subject"),
        (["evaluations", "show", "runs/a"], "evaluation"),
        (["evaluations", "list", "--dataset", "a/b"], "dataset"),
        (["models", "import", "x.gguf", "--id", "a/b"], "id"),
    ],
)
def test_wrong_names_and_values_are_named_before_any_call(
    nowhere: str, command: list[str], field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--json"]) == 1
    error = json.loads(capsys.readouterr().err)
    assert error["reason"] == "INVALID_FIELDS"
    assert [violation["field"] for violation in error["violations"]] == [field]


def test_a_path_in_place_of_an_id_says_how_to_upload_it(
    nowhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--model", "./model", "--dataset", "g", "--steps", "1"]) == 1
    assert "`tunix-rt models import`" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["missing.gguf", "package:other"])
def test_an_unknown_model_source_is_an_error(
    nowhere: str, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "import", source, "--id", "a", "--json"]) == 1
    assert json.loads(capsys.readouterr().err)["reason"] == "SOURCE_UNKNOWN"


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip()


def test_the_demo_leaves_a_folder_that_is_not_its_own_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["demo", "--tiny", "--state", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().err)["reason"] == "STATE_IN_USE"
    assert (tmp_path / "thesis.txt").read_text() == "mine"
