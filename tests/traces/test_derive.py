"""Datasets made from others."""

from __future__ import annotations

import pytest

from tunix_rt.traces.derive import Conditions, merge, mixture_sizes, subset
from tunix_rt.traces.trace import Step, Trace


def trace(name: str, prompt: str = "", steps: int = 0, answer: str = "4", **meta: object) -> Trace:
    made = tuple(Step(i, "compute", "ab") for i in range(steps))
    return Trace(name, prompt or f"{name}?", made, answer, "integer", meta=meta)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (Conditions(), "abc"),
        (Conditions(splits=("test",)), "c"),
        (Conditions(where={"family": "sum"}), "ac"),
        (Conditions(where={"family": "sum", "meta.level": "2"}), "c"),
        (Conditions(where={"final_answer": "5"}), "b"),
        (Conditions(where={"answer_type": "text"}), ""),
        (Conditions(min_steps=1, max_steps=2), "b"),
        (Conditions(max_characters=11), "ac"),
        (Conditions(without={"a"}), "bc"),
    ],
)
def test_conditions_hold_for_some_traces(conditions: Conditions, expected: str) -> None:
    rows = [
        (trace("a", family="sum", level=1), "train"),
        (trace("b", steps=2, answer="5", family="product"), "train"),
        (trace("c", family="sum", level=2), "test"),
    ]
    assert "".join(each.id for each, split in rows if conditions.hold(each, split)) == expected


ROWS = [(trace(f"t{i}"), "train") for i in range(100)]


def test_a_subset_keeps_the_order_and_is_drawn_by_its_seed() -> None:
    first = subset(ROWS, 20, 1)
    assert len(first) == 20
    assert first == [row for row in ROWS if row in first]
    assert first == subset(ROWS, 20, 1) != subset(ROWS, 20, 2)


def test_a_larger_subset_holds_the_smaller_one() -> None:
    small, large = ({trace.id for trace, _ in subset(ROWS, size, 1)} for size in (20, 30))
    assert small < large


def test_a_trace_that_leaves_changes_nothing_else_in_the_choice() -> None:
    chosen = subset(ROWS, 20, 1)
    others = [row for row in ROWS if row != chosen[3]]
    assert len([row for row in subset(others, 20, 1) if row in chosen]) == 19


def test_a_merge_has_each_content_once_and_each_id_once() -> None:
    first = [(trace("a", "one"), "train"), (trace("b", "two"), "train")]
    second = [(trace("x", "one"), "test"), (trace("b", "three"), "test"), (trace("b-2", "four"), "test")]
    made = merge([first, second])
    assert [(each.id, each.prompt, split) for each, split in made.rows] == [
        ("a", "one", "train"),
        ("b", "two", "train"),
        ("b-3", "three", "test"),
        ("b-2", "four", "test"),
    ]
    assert (made.duplicates, made.renamed) == (1, 1)


@pytest.mark.parametrize(
    ("shares", "size", "expected"),
    [([1, 1], 10, [5, 5]), ([0.7, 0.3], 10, [7, 3]), ([1, 1, 1], 10, [4, 3, 3]), ([2, 1], 2, [1, 1])],
)
def test_a_mixture_is_divided_by_largest_remainders(shares, size, expected) -> None:
    assert mixture_sizes(shares, size) == expected
