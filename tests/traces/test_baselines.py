from __future__ import annotations

import pytest

from tunix_rt.traces.baselines import baseline_predictions
from tunix_rt.traces.trace import Trace


def traces(*answers: str, answer_type: str = "") -> list[Trace]:
    return [
        Trace(id=f"t{i}", prompt=f"question {i}?", final_answer=answer, answer_type=answer_type)
        for i, answer in enumerate(answers)
    ]


def test_majority_answer_is_the_most_frequent_of_the_training_traces() -> None:
    found = baseline_predictions(traces("7", "12", " 7 ", "3", ""), traces("12", "12"))
    assert found["majority-answer"] == ["7", "7"]


def test_of_equally_frequent_answers_the_first_in_the_alphabet_counts() -> None:
    assert baseline_predictions(traces("b", "a"), traces("x"))["majority-answer"] == ["a"]


@pytest.mark.parametrize(
    ("answers", "constant"),
    [(["7", "12", "yes"], "0"), (["yes", "no", "7"], "yes"), (["B", "D"], "A"), (["5 %", "7 %"], "0%")],
)
def test_constant_is_that_of_the_most_frequent_answer_type(answers: list[str], constant: str) -> None:
    assert baseline_predictions(traces(*answers), traces("x", "y"))["constant"] == [constant] * 2


def test_stated_type_goes_before_the_form_of_the_answer() -> None:
    found = baseline_predictions(traces("A", "B", answer_type="text"), traces("x"))
    assert "constant" not in found
    assert found["majority-answer"] == ["A"]


def test_number_in_question_is_its_last_one() -> None:
    prompts = ("What is 14 + 7 - 3?", "Ann has 1,200 apples.", "Who was Ada?", "Is 12-5 odd?")
    items = [Trace(id=prompt, prompt=prompt) for prompt in prompts]
    assert baseline_predictions([], items) == {"number-in-question": ["3", "1,200", "", "5"]}


def test_no_rule_looks_at_the_answers_of_the_items() -> None:
    train = traces("1", "2", "2")
    assert baseline_predictions(train, traces("9", "8")) == baseline_predictions(train, traces("no", ""))
