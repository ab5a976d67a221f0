"""Verdicts are read strictly: what is not one is undecided."""

import math

import pytest

from tunix_rt.judges.requests import Case
from tunix_rt.judges.verdicts import MAX_COMMENT, read_verdict, verdict_of_log_likelihoods

ONE = Case("Q", "4", "Answer: 4")
PAIR = Case("Q", "4", "Answer: 4", second="Answer: 5")


@pytest.mark.parametrize(
    ("text", "probability"),
    [
        ("The sum is right.\nVerdict: correct", 1.0),
        ("Verdict: incorrect", 0.0),
        ("2 + 2 is 4.\n\n**Verdict: Correct.**\n", 1.0),
        ('{"verdict": "incorrect", "comment": "5 is not 4"}', 0.0),
        ("Verdict: correct\nNo, wait.\nVerdict: incorrect", 0.0),
    ],
)
def test_readable_verdicts(text: str, probability: float) -> None:
    assert read_verdict(text, ONE).probability == probability


@pytest.mark.parametrize(
    "text",
    [
        "",
        "correct",
        "The verdict is correct",
        "Verdict: correct\nbut I am not sure",
        "Verdict: correct or incorrect",
        "Verdict: not correct",
        "Verdict: correct|incorrect",
        "Verdict: yes",
        "Verdict: A",
        '{"verdict": true}',
        '{"verdict": "maybe"}',
        '["correct"]',
        "[" * 100_000,
    ],
)
def test_anything_else_is_undecided(text: str) -> None:
    verdict = read_verdict(text, ONE)
    assert (verdict.probability, verdict.accepts) == (None, None)
    assert verdict.comment


def test_a_text_that_was_cut_is_undecided() -> None:
    assert read_verdict("Verdict: correct", ONE, cut=True).accepts is None


def test_a_pair_has_sides() -> None:
    assert read_verdict("Verdict: A", PAIR).accepts is True
    assert read_verdict("verdict: b", PAIR).accepts is False
    assert read_verdict("Verdict: correct", PAIR).accepts is None


def test_the_comment_is_what_the_judge_wrote() -> None:
    assert read_verdict("Fine.\nVerdict: correct", ONE).comment == "Fine.\nVerdict: correct"
    assert read_verdict('{"verdict": "correct", "comment": "Fine."}', ONE).comment == "Fine."
    assert len(read_verdict("a" * 5000 + "\nVerdict: correct", ONE).comment) == MAX_COMMENT


@pytest.mark.parametrize(
    ("first", "second", "probability"),
    [(-1.0, -1.0 - math.log(3), 0.75), (-5.0, -1.0, 1 / (1 + math.e**4)), (-2000.0, -1.0, 0.0)],
)
def test_a_probability_compares_the_two_words(first: float, second: float, probability: float) -> None:
    assert verdict_of_log_likelihoods(first, second).probability == pytest.approx(probability)


def test_equal_or_infinite_likelihoods_decide_nothing() -> None:
    assert verdict_of_log_likelihoods(-3.0, -3.0).accepts is None
    assert verdict_of_log_likelihoods(-math.inf, -3.0).probability is None
