"""Tables in, files out, and datasets made from others, through the command line and a real stack."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.standalone.connection import connect
from tunix_rt.standalone.dataset_upload import DatasetPlan, upload_dataset
from tunix_rt.traces.trace import Trace
from tunix_rt.v1 import dataset_pb2, registry_service_pb2

pytestmark = pytest.mark.timeout(240)  # the first test waits for the stack


@pytest.fixture
def gsm(tmp_path: Path) -> Path:
    """A folder as GSM8K lies on a hub."""
    folder = tmp_path / "gsm"
    folder.mkdir()
    for split, numbers in (("train", range(30)), ("test", range(30, 36))):
        questions = [f"Ann has {n} apples and buys 2. How many?" for n in numbers]
        answers = [f"{n} + 2 = <<{n}+2={n + 2}>>{n + 2}\n#### {n + 2}" for n in numbers]
        table = pa.table({"question": questions, "answer": answers})
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder


def create(command: Callable, name: str, path: Path, *options: str):
    return command("datasets", "create", name, "--file", str(path), *options, "--json")


def test_a_hub_folder_becomes_a_dataset_with_its_splits(command: Callable, gsm: Path) -> None:
    made = create(command, "gsm", gsm, "--format", "gsm8k", "--keep-splits").json
    assert {split["name"]: split["trace_count"] for split in made["splits"]} == {"train": "30", "test": "6"}
    assert made["source"]["config"]["format"] == "gsm8k"
    shown = command("datasets", "show", "gsm", "--traces", "1", "--json").json
    assert shown["traces"][0]["final_answer"] == "2"
    assert shown["statistics"]["total"]["steps"]["max"] == "1"
    assert "easiest rule" in command("datasets", "show", "gsm").out


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_what_is_exported_and_imported_again_is_the_same_dataset(
    command: Callable, gsm: Path, tmp_path: Path, suffix: str
) -> None:
    made = create(command, f"there-{suffix}", gsm, "--format", "gsm8k").json
    path = tmp_path / f"out.{suffix}"
    told = command("datasets", "export", f"there-{suffix}", str(path), "--json").json
    assert told["traces"] == 36
    again = create(command, f"back-{suffix}", path, "--keep-splits").json
    assert again["sha256"] == made["sha256"]
    if suffix == "jsonl":
        assert hashlib.sha256(path.read_bytes()).hexdigest() == made["sha256"]


def test_one_split_is_exported(command: Callable, gsm: Path, tmp_path: Path) -> None:
    create(command, "two-splits", gsm, "--format", "gsm8k", "--keep-splits")
    path = tmp_path / "test.jsonl"
    told = command("datasets", "export", "two-splits", str(path), "--split", "test", "--json").json
    assert told["traces"] == 6
    assert {json.loads(line)["split"] for line in path.read_text().splitlines()} == {"test"}


def test_columns_are_mapped_by_options(command: Callable, tmp_path: Path) -> None:
    table = pa.table({"q": ["2 + 2?", "3 + 3?"], "target": [4, 6], "level": ["a", "b"]})
    pq.write_table(table, tmp_path / "mine.parquet")
    named = ["--map", "prompt=q", "--map", "final_answer=target"]
    refused = create(command, "mapped", tmp_path / "mine.parquet", *named)
    fields = [violation["field"] for violation in refused.error["violations"]]
    assert fields == ["mine.parquet row 1: level", "mine.parquet row 2: level"]
    create(command, "mapped", tmp_path / "mine.parquet", *named, "--others", "meta")
    shown = command("datasets", "show", "mapped", "--json").json
    assert [trace["meta"] for trace in shown["traces"]] == [{"level": "a"}, {"level": "b"}]


def test_a_filter_a_merge_and_a_mixture_name_their_parents(command: Callable) -> None:
    for seed in ("1", "2"):
        options = ["--generator", "arithmetic@1", "--size", "60", "--seed", seed]
        command("datasets", "create", f"sums-{seed}", *options)
    derive = ["datasets", "derive"]
    train = command(*derive, "only-train", "--from", "sums-1", "--split", "train", "--json").json
    assert train["parents"] == ["datasets/sums-1"]
    assert train["derivation"] == {"method": "filter", "config": {"splits": ["train"]}}
    assert [split["name"] for split in train["splits"]] == ["train"]
    merged = command(*derive, "both", "--from", "sums-1", "--from", "sums-2", "--json").json
    assert merged["derivation"]["method"] == "merge"
    assert int(merged["trace_count"]) + merged["duplicates_left_out"] == 120
    shares = ["--from", "sums-1=3", "--from", "sums-2=1", "--size", "20"]
    mixed = command(*derive, "mixed", *shares, "--json").json
    assert (mixed["trace_count"], mixed["derivation"]["method"]) == ("20", "mixture")


def test_a_copy_is_no_derived_dataset(command: Callable) -> None:
    command("datasets", "create", "plain", "--generator", "golden@2", "--size", "5")
    answer = command("datasets", "derive", "copy", "--from", "plain", "--json")
    assert "would be a copy" in answer.error["violations"][0]["description"]


def test_a_dataset_is_described_deleted_and_restored(command: Callable) -> None:
    command("datasets", "create", "short-lived", "--generator", "golden@2", "--size", "5")
    texts = ["--label", "team=red", "--description", "d"]
    changed = command("datasets", "update", "short-lived", *texts, "--json")
    assert (changed.json["labels"], changed.json["description"]) == ({"team": "red"}, "d")
    command("datasets", "delete", "short-lived")
    listed = command("datasets", "list", "--json").json["datasets"]
    assert "datasets/short-lived" not in {each["name"] for each in listed}
    assert "deleted" in command("datasets", "show", "short-lived").out
    assert "is back" in command("datasets", "restore", "short-lived").out


def test_a_dataset_whose_traces_are_refused_is_not_left_open(command: Callable) -> None:
    command("datasets", "list")  # the stack
    plan = DatasetPlan("refused", dataset_pb2.Dataset(), [Trace("a", "p", final_answer="")])
    with connect() as connection:
        with pytest.raises(grpc.RpcError, match="final_answer"):
            upload_dataset(connection, plan)
        request = registry_service_pb2.GetDatasetRequest(name="datasets/refused")
        assert connection.registry.GetDataset(request).HasField("delete_time")


def test_lengths_in_the_tokens_of_a_model(command: Callable, tmp_path: Path) -> None:
    prompts = ["1 + 1 = ?", "22 + 22 = ?", "333 + 333 = ?"]
    folder = tmp_path / "tiny"
    make_tiny_model(folder, prompts, seed=1, hidden_size=64, num_layers=1)
    assert command("models", "import", str(folder), "--id", "tiny-tokens", "--json").json["name"]
    lines = [json.dumps({"prompt": prompt, "completion": "So 2."}) for prompt in prompts]
    (tmp_path / "three.jsonl").write_text("\n".join(lines))
    create(command, "three", tmp_path / "three.jsonl", "--splits", "train=1")
    tokenizer = Tokenizer.load(folder)
    lengths = sorted(len(tokenizer.encode(prompt)) for prompt in prompts)
    told = command("datasets", "show", "three", "--model", "tiny-tokens", "--json").json["tokens"]
    assert [each["split"] for each in told] == ["", "train"]
    assert (told[0]["prompt"]["least"], told[0]["prompt"]["p50"], told[0]["prompt"]["greatest"]) == (
        *lengths,
    )
    assert told[1]["learnt"]["mean"] == len(tokenizer.encode("So 2."))
    shown = command("datasets", "show", "three", "--model", "tiny-tokens").out
    assert "tokens of models/tiny-tokens/versions/v1" in shown
