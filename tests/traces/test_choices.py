"""The choices of an item, and the likeliest of them."""

from __future__ import annotations

import pytest

from tunix_rt.traces.choices import (
    Choices,
    answer_prefix,
    expected_choice,
    item_choices,
    likeliest_choice,
)
from tunix_rt.traces.text import FORMATS, completion_text
from tunix_rt.traces.trace import Trace


def item(choices: object, answer: str = "B") -> Trace:
    return Trace(id="q", prompt="Which?", final_answer=answer, meta={"choices": choices})


@pytest.mark.parametrize(
    ("answer", "index"),
    [("dog", 1), (" dog ", 1), ("B", 1), ("b", 1), ("(b)", 1), ("C)", 2), ("a.", 0), ("A:", 0)],
)
def test_an_answer_names_a_choice_by_text_or_letter(answer: str, index: int) -> None:
    assert expected_choice(("cat", "dog", "cow"), answer) == index


def test_the_text_of_a_choice_comes_before_its_letter() -> None:
    assert expected_choice(("B", "A"), "A") == 1


@pytest.mark.parametrize("answer", ["D", "", "hen", "AB", "1"])
def test_an_answer_that_names_no_choice_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match="neither a choice nor the letter of one"):
        expected_choice(("cat", "dog", "cow"), answer)


def test_the_choices_are_in_the_metadata() -> None:
    assert item_choices(item(["cat", "dog"])) == Choices(("cat", "dog"), 1)


@pytest.mark.parametrize(
    ("choices", "fault"),
    [
        (None, "no list of texts"),
        ("AB", "no list of texts"),
        ([1.0, 2.0], "no text or empty"),
        (["cat", " "], "no text or empty"),
        (["cat"], "1 choices; 2 to 26"),
        ([f"text {number}" for number in range(27)], "27 choices; 2 to 26"),
        (["cat", "cat "], "two choices are the same"),
    ],
)
def test_unusable_choices_are_refused(choices: object, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        item_choices(item(choices))


@pytest.mark.parametrize(("normalization", "index"), [("none", 0), ("characters", 1), ("bytes", 2)])
def test_a_normalization_divides_by_the_length(normalization: str, index: int) -> None:
    # -2 / 1, -3 / 4 characters or 8 bytes, -4 / 5 characters or 15 bytes
    texts = ("a", "éééé", "日本語日本")
    assert likeliest_choice([-2.0, -3.0, -4.0], texts, normalization) == index


def test_the_first_of_equal_choices_is_taken() -> None:
    assert likeliest_choice([-2.0, -1.0, -1.0], ("a", "b", "c"), "none") == 1


@pytest.mark.parametrize("text_format", FORMATS)
def test_a_choice_stands_where_the_answer_of_a_completion_stands(text_format: str) -> None:
    completion = completion_text(Trace(id="q", prompt="Which?", final_answer="dog"), text_format)
    assert completion.startswith(answer_prefix(text_format) + "dog")
