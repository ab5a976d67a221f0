"""The `key=value` texts of the command line."""

from __future__ import annotations

import pytest

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.options import parse_labels, parse_splits, parse_values
from tunix_rt.standalone.train_command import apply_retention
from tunix_rt.v1.run_pb2 import CheckpointRetention, RunSpec


def test_values_are_json_where_they_can_be() -> None:
    texts = ["terms=3", "negatives=true", "name=x", 'families={"chain_sum":1}', "empty="]
    assert parse_values(texts, "config") == {
        "terms": 3,
        "negatives": True,
        "name": "x",
        "families": {"chain_sum": 1},
        "empty": "",
    }


def test_labels_stay_texts() -> None:
    assert parse_labels(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}


@pytest.mark.parametrize("text", ["a", "=1", ""])
def test_a_text_without_a_key_or_a_sign_is_an_error(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"config: is `.*`; give key=value"):
        parse_values([text], "config")


def test_splits_are_shares_by_name() -> None:
    assert parse_splits("train=0.8, validation=0.1,test=0.1") == {
        "train": 0.8,
        "validation": 0.1,
        "test": 0.1,
    }
    assert parse_splits("") == {}


@pytest.mark.parametrize("text", ["train", "train=x", "train=0.5,train=0.5", "=1"])
def test_wrong_splits_name_the_part(text: str) -> None:
    with pytest.raises(InvalidArgument, match="splits: has the part"):
        parse_splits(text)


def test_only_what_was_said_of_retention_is_set() -> None:
    spec = RunSpec(retention=CheckpointRetention(keep_last=3, keep_every=50))
    apply_retention(spec, {"keep_last": None, "keep_every": 20, "best_metric": "validation/loss"})
    assert spec.retention == CheckpointRetention(keep_last=3, keep_every=20, best_metric="validation/loss")
    apply_retention(other := RunSpec(), {"keep_last": None, "keep_every": None, "best_metric": None})
    assert other == RunSpec()


def test_a_number_that_fits_no_field_names_it() -> None:
    with pytest.raises(InvalidArgument, match=r"spec\.retention\.keep_last: is 10{12}; it is out of range"):
        apply_retention(RunSpec(), {"keep_last": 10**12, "keep_every": None, "best_metric": None})
