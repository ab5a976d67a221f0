import pytest

from tunix_rt.answers.score import SCORER, score_output

CASES = [
    # output, expected, finish reason, outcome
    ("Reasoning… Answer: 4", "4", "stop", "correct"),
    ("4", "4", "stop", "correct"),
    ("17 + 25 = 42\n42 - 8 = 34\nAnswer: 34", "34", "stop", "correct"),
    ("17 + 25 = 32\n32 - 8 = 24\nAnswer: 24", "34", "stop", "wrong"),
    ("33", "3", "stop", "wrong"),
    ("Answer: 33", "3", "stop", "wrong"),
    ("<reasoning>2 + 2</reasoning>\n<answer>4</answer>", "4", "stop", "correct"),
    ("<reasoning>2 + 2 = 4", "4", "stop", "no_answer"),
    ("<reasoning>2 + 2 = 4", "4", "length", "truncated"),
    ("", "4", "stop", "no_answer"),
    ("", "4", "length", "truncated"),
    ("I do not know how to work that out, I am sorry", "4", "stop", "no_answer"),
    ("17 + 25 = 42\n42 - 8 = 3", "3", "length", "truncated"),
    ("12", "12", "length", "truncated"),
    ("<answer>4", "4", "length", "truncated"),
    ("<answer>4", "4", "stop", "correct"),
    ("Answer: 4\nNow let me explain why that is", "4", "length", "correct"),
    ("anything", "4", "error", "failed"),
    ("Answer: 4", "4", "", "correct"),
    ("Answer: five", "5", "stop", "correct"),
    ("Answer: yes", "true", "stop", "correct"),
]


@pytest.mark.parametrize(("output", "expected", "finish_reason", "outcome"), CASES)
def test_outcome(output: str, expected: str, finish_reason: str, outcome: str) -> None:
    scored = score_output(output, expected, "", (), finish_reason)
    assert scored.outcome == outcome
    assert scored.score == (1.0 if outcome == "correct" else 0.0)


def test_the_rule_that_fired_and_the_answer_are_kept() -> None:
    scored = score_output("Steps.\n**Answer:** 5", "4", "integer")
    assert (scored.extracted, scored.rule) == ("5", "answer_line")


def test_without_an_answer_nothing_is_extracted() -> None:
    scored = score_output("<think>so 4", "4", finish_reason="length")
    assert (scored.extracted, scored.rule) == (None, "unfinished_reasoning")


def test_showing_the_work_scores_like_the_bare_answer() -> None:
    assert score_output("Reasoning… Answer: 4", "4") != score_output("wrong", "4")
    assert score_output("Reasoning… Answer: 4", "4").score == score_output("4", "4").score == 1.0


def test_an_unknown_finish_reason_is_an_error() -> None:
    with pytest.raises(ValueError, match="finish_reason is 'eos'"):
        score_output("4", "4", finish_reason="eos")


def test_the_scorer_has_a_version() -> None:
    assert SCORER == "exact-answer@1"
