import pytest

import tunix_rt.traces.text as trace_text
from tunix_rt.answers.extract import FORMATS
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
    ("Answer: 4\n", "4", "length", "correct"),
    ("Answer: 4", "4", "length", "truncated"),  # it may be the beginning of 42
    ("Answer: 4 ", "4", "length", "truncated"),
    ("Answer: 4\n<reasoning>But", "4", "length", "correct"),
    ("The answer is 4", "4", "length", "truncated"),
    ("The answer is 4. Let me", "4", "length", "correct"),
    ("#### 4", "4", "length", "truncated"),
    ("so \\boxed{4}", "4", "length", "correct"),
    ("<answer>4</answer>", "4", "length", "correct"),
    ("It is B because Paris is", "B", "length", "truncated"),
    ("anything", "4", "error", "failed"),
    ("Answer: 4", "4", "", "correct"),
    ("Answer: five", "5", "stop", "correct"),
    ("Answer: yes", "true", "stop", "correct"),
    ("I am sure: the best choice is B. It fits.", "B", "stop", "correct"),
    ("B because Paris is the capital of France", "B", "stop", "correct"),
    ("C because Rome is the capital of Italy", "B", "stop", "wrong"),
    ("I am quite sure that there are 3 of them", "yes", "stop", "no_answer"),
    ("In the end all of this happened on 4 March 2024", "2024-03-04", "stop", "correct"),
    ("In the end we have to pay $3.50 for all of it", "$3.50", "stop", "correct"),
]


@pytest.mark.parametrize(("output", "expected", "finish_reason", "outcome"), CASES)
def test_outcome(output: str, expected: str, finish_reason: str, outcome: str) -> None:
    scored = score_output(output, expected, "", (), finish_reason)
    assert scored.outcome == outcome
    assert scored.score == (1.0 if outcome == "correct" else 0.0)


STRICT = [
    # output, format, expected, whether it counts for the strict score
    ("17 + 25 = 42\nAnswer: 42", "answer-line", "42", True),
    ("Answer: 42", "answer-line", "42", True),
    ("  Answer: 42.  \n\n", "answer-line", "42", True),
    ("<think>so</think>\nAnswer: 42", "answer-line", "42", True),
    ("Answer: 41", "answer-line", "42", False),
    ("42", "answer-line", "42", False),
    ("So Answer: 42", "answer-line", "42", False),
    ("answer: 42", "answer-line", "42", False),
    ("**Answer:** 42", "answer-line", "42", False),
    ("Answer: 42\nThat was easy.", "answer-line", "42", False),
    ("Answer:\n42", "answer-line", "42", False),
    ("\\boxed{42}", "answer-line", "42", False),
    ("#### 42", "answer-line", "42", False),
    ("<answer>42</answer>", "answer-line", "42", False),
    ("<answer>42</answer>\nAnswer: 41", "answer-line", "42", False),
    ("<answer>42</answer>\nAnswer: 42.0", "answer-line", "42", True),
    ("<reasoning>40 + 2 = 42</reasoning>\n<answer>42</answer>", "tags", "42", True),
    ("<answer>\n42\n</answer>\n", "tags", "42", True),
    ("<answer>41</answer> no, <answer>42</answer>", "tags", "42", True),
    ("<answer>42</answer> Done.", "tags", "42", False),
    ("<ANSWER>42</ANSWER>", "tags", "42", False),
    ("<answer>42", "tags", "42", False),
    ("Answer: 42", "tags", "42", False),
    ("42", "tags", "42", False),
    ("<reasoning><answer>42</answer></reasoning>", "tags", "42", False),
    ("Answer: 42", "", "42", True),
    ("so \\boxed{42}", "", "42", True),
    ("<answer>42</answer> Done.", "", "42", True),
    ("42", "", "42", False),
    ("<answer>42", "", "42", False),
    ("Answer: 41", "", "42", False),
]


@pytest.mark.parametrize(("output", "format_", "expected", "strict"), STRICT)
def test_the_strict_score_asks_for_the_format(output: str, format_: str, expected: str, strict: bool) -> None:
    scored = score_output(output, expected, format=format_)
    assert scored.strict_score == (1.0 if strict else 0.0)
    assert scored.strict_score <= scored.score


def test_a_cut_answer_line_that_is_not_the_last_counts_only_leniently() -> None:
    scored = score_output("Answer: 4\nNow", "4", finish_reason="length", format="answer-line")
    assert (scored.score, scored.strict_score) == (1.0, 0.0)


def test_a_pattern_takes_the_place_of_the_rules_and_not_of_the_format() -> None:
    scored = score_output("result=7\nAnswer: 4", "7", format="answer-line", pattern=r"result=(\d+)")
    assert (scored.score, scored.strict_score, scored.rule) == (1.0, 0.0, "pattern")
    assert score_output("Answer: 4", "4", pattern=r"result=(\d+)").outcome == "no_answer"
    assert score_output("result=7", "7", "", (), "length", pattern=r"result=(\d+)").outcome == "truncated"
    assert score_output("result=7;", "7", "", (), "length", pattern=r"result=(\d+);").outcome == "correct"


def test_the_formats_are_those_of_the_prompts() -> None:
    assert ("", *trace_text.FORMATS) == FORMATS


def test_an_unknown_format_is_an_error() -> None:
    with pytest.raises(ValueError, match="format is 'xml'; it must be one of answer-line, tags"):
        score_output("4", "4", format="xml")


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
    assert SCORER == "exact-answer@2"
