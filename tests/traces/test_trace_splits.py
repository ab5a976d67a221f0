import hashlib

import pytest

from tunix_rt.traces.splits import assign_split
from tunix_rt.traces.trace import TraceError

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def digests(count: int) -> list[str]:
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)]


def test_the_order_of_the_fractions_does_not_matter() -> None:
    backwards = dict(reversed(SHARES.items()))
    assert [assign_split(d, SHARES, 1) for d in digests(200)] == [
        assign_split(d, backwards, 1) for d in digests(200)
    ]


def test_the_shares_are_met() -> None:
    splits = [assign_split(digest, SHARES, 42) for digest in digests(5000)]
    assert splits.count("train") / 5000 == pytest.approx(0.8, abs=0.02)
    assert splits.count("test") / 5000 == pytest.approx(0.1, abs=0.02)


def test_another_seed_splits_otherwise() -> None:
    splits = {seed: [assign_split(digest, SHARES, seed) for digest in digests(100)] for seed in (1, 2)}
    assert splits[1] != splits[2]


def test_a_known_digest_is_always_in_the_same_split() -> None:
    assert [assign_split(digest, SHARES, 42) for digest in digests(6)] == PINNED


def test_one_split_takes_all() -> None:
    assert {assign_split(digest, {"train": 1.0}, 0) for digest in digests(50)} == {"train"}


@pytest.mark.parametrize(
    ("fractions", "path"),
    [
        ({}, "split_fractions"),
        ({"train": 0.8, "test": 0.1}, "split_fractions"),
        ({"train": 1.5, "test": -0.5}, "split_fractions.test"),
        ({"train": float("nan")}, "split_fractions.train"),
    ],
)
def test_impossible_fractions_are_refused(fractions: dict[str, float], path: str) -> None:
    with pytest.raises(TraceError) as caught:
        assign_split("00", fractions, 0)
    assert path in [violation.path for violation in caught.value.violations]


PINNED = ["validation", "train", "train", "train", "test", "train"]
