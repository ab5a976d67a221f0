"""The `key=value` texts of the command line."""

from __future__ import annotations

import pytest

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.options import parse_labels, parse_splits, parse_values


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
