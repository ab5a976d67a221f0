"""What a set of traces holds."""

from __future__ import annotations

import pytest

from tunix_rt.traces.set_statistics import Overlap, Quantiles, RuleScore, quantiles, set_statistics
from tunix_rt.traces.trace import ChatMessage, Step, Trace


def trace(identifier: str, prompt: str, answer: str = "4", steps: int = 0, **fields: object) -> Trace:
    made = tuple(Step(i, "compute", "ab") for i in range(steps))
    return Trace(identifier, prompt, made, answer, **fields)  # type: ignore[arg-type]


ROWS = [
    (trace("a", "2 + 2?", steps=1, meta={"family": "sum"}), "train"),
    (trace("b", "What is 2 * 2?", steps=3, meta={"family": "product"}), "train"),
    (trace("c", "2+2 ?", meta={"family": "sum"}), "train"),
    (trace("d", "How many legs has a cat?", "blue", meta={"family": "word"}), "test"),
    (trace("e", "2 + 2?", meta={"family": "sum"}), "test"),
    (trace("f", "1 + 4?", meta={"family": "sum"}), "test"),
]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7], Quantiles(7, 7, 7, 7, 7, 7.0)),
        ([3, 1, 2, 4], Quantiles(1, 2, 4, 4, 4, 2.5)),
        (range(1, 101), Quantiles(1, 50, 90, 99, 100, 50.5)),
    ],
)
def test_quantiles_are_values_that_occur(values, expected) -> None:
    assert quantiles(values) == expected


def test_no_values_have_no_quantiles() -> None:
    assert quantiles([]) is None


def test_duplicates_are_counted_byte_for_byte_and_by_words() -> None:
    found = set_statistics(ROWS, ["train", "test"])
    assert [(each.exact_duplicates, each.normalised_duplicates) for each in found.splits] == [(0, 1), (0, 0)]
    assert (found.total.exact_duplicates, found.total.normalised_duplicates) == (1, 2)


def test_prompts_in_two_splits_are_counted() -> None:
    assert set_statistics(ROWS, ["train", "test"]).overlaps == (Overlap("train", "test", 1, 1),)


def test_lengths_and_kinds_of_a_split() -> None:
    train = set_statistics(ROWS, ["train", "test"]).splits[0]
    assert train.steps == Quantiles(0, 1, 3, 3, 3, 4 / 3)
    assert train.prompt_characters == Quantiles(5, 6, 14, 14, 14, 25 / 3)
    # "ab" and "Answer: 4" on lines of their own
    assert train.completion_characters == Quantiles(9, 12, 18, 18, 18, 13.0)
    assert dict(train.answer_types) == {"integer": 3}
    assert list(train.families.items()) == [("sum", 2), ("product", 1)]


def test_rules_learn_from_train_and_answer_the_other_splits() -> None:
    train, test = set_statistics(ROWS, ["train", "test"]).splits
    assert train.baselines == ()
    assert test.baselines == (
        RuleScore("majority-answer", 2 / 3, 3),
        RuleScore("number-in-question", 1 / 3, 3),
        RuleScore("constant", 0.0, 3),
    )


def test_of_a_conversation_all_turns_count() -> None:
    turns = (ChatMessage("system", "abc"), ChatMessage("user", "de"), ChatMessage("assistant", "fghi"))
    total = set_statistics([(Trace("a", "de", messages=turns), "train")], ["train"]).total
    assert total.prompt_characters == Quantiles(5, 5, 5, 5, 5, 5.0)
    assert total.completion_characters == Quantiles(4, 4, 4, 4, 4, 4.0)
    assert dict(total.answer_types) == {"": 1}
    assert total.family_count == 0


def test_an_empty_split_has_no_lengths() -> None:
    empty = set_statistics(ROWS, ["train", "test", "validation"]).splits[2]
    assert (empty.trace_count, empty.steps, empty.baselines) == (0, None, ())
