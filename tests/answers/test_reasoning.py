"""Formats, arithmetic steps, the way to the answer, repetition: literal cases."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import pytest

from tunix_rt.answers.reasoning import (
    ReasoningChecks,
    ReasoningSummary,
    check_reasoning,
    obeys_format,
    reasoning_card,
    repetition,
)
from tunix_rt.answers.steps import find_steps
from tunix_rt.traces.dataset_sources import build
from tunix_rt.traces.text import completion_text
from tunix_rt.v1 import evaluation_pb2

TRUE = [
    "Each glass: $5 x 60% = $3",
    "$5 * (100 - 40)% = $3",
    "2n + 1 = 7, so 2 * 3 + 1 = 7",
    "a² + b² = 9 + 16 = 25",
    "25 °C = 25 × 9/5 + 32 = 77 °F",
    "1/2 + 1/3 = 3/6 + 2/6 = 5/6",
    "15 / 4 = 3.75 ≈ 4",
    "Step 3 (3 + 4 = 7)",
    "1/3 = 33.33%",
    "17 + 25 = 42",
    "17+25=42",
    "60 - 18 = 42.",
    "6 * 7 = 42",
    "6 × 7 = 42",
    "6 x 7 = 42",
    "6x7 = 42",
    "84 / 2 = 42",
    "84 ÷ 2 = 42",
    "84 − 42 = 42",
    "3 − −4 = 7",
    "2 + 3 * 4 = 14",
    "(2 + 3) * 4 = 20",
    "2(3 + 4) = 14",
    "(2)(3) = 6",
    "-5 + 3 = -2",
    "5 - (-3) = 8",
    "1,200 + 34 = 1,234",
    "1 + 0.5 = 1.5",
    ".5 + .25 = .75",
    "0.1 + 0.2 = 0.3",
    "3*4 + 2 = 12 + 2 = 14",
    "42 = 17 + 25",
    "Total = 17 + 25 = 42",
    "x = 17 + 25 = 42",
    "10 / 3 = 3.33",
    "7 / 8 ≈ 0.88",
    "10 / 3 ≈ 3",
    "2 / 3 = 0.666...",
    "20% of 50 = 10",
    "20 % × 50 = 10",
    "5 / 20 * 100 = 25%",
    "1/4 = 0.25 = 25%",
    "100% - 20% = 80%",
    "20 percent of 50 = 10",
    "1/2 of 10 = 5",
    "$5 + $3 = $8",
    "5 apples + 3 apples = 8 apples",
    "12 + 3 = 15 apples in total",
    "1_000 + 500 = 1_500",
    "f(2) = 2 + 3 = 5",
    "2^3 = 8",
    "2**3 = 8",
    "2 ** 3 = 8",
    "5² = 25",
    "2^3^2 = 512",
    "**17 + 25 = 42**",
    "**17 + 25** = 42",
    "17 + 25 = **42**",
    "**3** + **4** = 7",
    "*17 + 25 = 42*",
    "Result: **17 + 25 = 42**",
    "- 17 + 25 = 42",
    "- 5 + 3 = -2",
    "* 17 + 25 = 42",
    "1. 17 + 25 = 42",
    "1) 17 + 25 = 42",
    "Step 1: 17 + 25 = 42",
    "Step 1 - 17 + 25 = 42",
    "Step 1 – 17 + 25 = 42",
    "(17 + 25 = 42)",
    "(since 17 + 25 = 42)",
    "17 + 25 = 42 (correct)",
    "\\( 17 + 25 = 42 \\)",
    "$17 + 25 = 42$",
    "6 \\times 7 = \\boxed{42}",
    "84 \\div 2 = 42",
    "x\n= 3 + 4\n= 7",
    "| 17 + 25 = 42 |",
    "<reasoning>17 + 25 = 42</reasoning>",
    "3x + 4x = 7x",
    "3 m + 4 m = 7 m",
    "17 + 25 == 42",
    "1e3 + 1 = 1001",
    "1234 * 5678 ≈ 7,000,000",
    "(3 + 4) apples × 2 = 14 apples",
    "90° + 45° = 135°",
    "3/4 = 0.75",
    "[3 + 4] × 2 = 14",
    "2^-1 = 0.5",
    "7 - 7 = 0",
    "1/3 + 1/6 = 1/2",
    "12 + 3 = 15 = 15",
    "The sum is 17 + 25 = 42!",
]

FALSE = [
    "7 / 2 = 3",
    "7 × 8 = 56 ÷ 2 = 28",
    "1/3 = 0.34",
    "17 + 25 = 43",
    "2 + 3 * 4 = 20",
    "0.1 + 0.2 = 0.30000000000000004",
    "3 + 4 = 7 = 8",
    "3 + 4 = 7 + 5 = 12",
    "5 / 0 = 0",
    "10 / 3 = 3.34",
    "10 / 3 = 3.3",
    "7 / 8 = 0.88",
    "2 / 3 = 0.66",
    "$5 + $3 = $9",
    "5 apples + 3 apples = 9 apples",
    "-2^2 = 4",
    "0 / 0 = 0",
]

# Nothing here can be called false without guessing.
NO_STEPS = [
    "100% - 20% = 70%",
    "200 + 10% = 220",
    "12/31/2024 - 1 = 12/30/2024",
    "2024-05-03 - 2024-05-01 = 2",
    "10:30 + 2 hours = 12:30",
    "5 ÷ 2 = 2 1/2",
    "200 GB / 2 GB/minute = 100 minutes",
    "Area = π × 2² = 12.57",
    "twice 5 + 1 = 11",
    "5C2 = 10",
    "|3 - 5| = 2",
    "(x+1)(x+2) = 0",
    "five + 4 = 9",
    "1" + "0" * 299 + "% * 10^20 = 7",
    "x + 2 + 4 = 11",
    "3x + 2 = 11",
    "3x + 2 + 4 = 11",
    "5 + x = 12",
    "x = 42",
    "x - 2 + 4 = 11",
    "x -2 + 4 = 11",
    "x-2 + 4 = 11",
    "5 = 5",
    "? + 5 = 12",
    "Is 3 + 4 = 8?",
    "17 + 25 = ?",
    "half of 10 + 5 = 10",
    "Tom has 12 + 3 = 15 apples and 2 pears",
    "2 hours + 30 minutes = 150 minutes",
    "2 hours 30 minutes + 15 minutes = 165 minutes",
    "50 cents × 4 = 2 dollars",
    "3:30 + 45 = 4:15",
    "1,23 + 4 = 5,23",
    "1 000 + 500 = 1 500",
    "17 / 5 = 3 remainder 2",
    "17 ÷ 5 = 3 R 2",
    "17 mod 5 + 1 = 3",
    "17 // 5 = 3",
    "5! = 120",
    "√16 + 2 = 6",
    "sqrt(16) + 2 = 6",
    "4 + sqrt(16) = 8",
    "f(2) + 1 = 9",
    "17 + 25 ≠ 43",
    "17 + 25 <= 43",
    "17 + 25 => 42",
    "Header 3 + 4\n=====",
    "3x + 4 = 19",
    "2 x + 4 = 19",
    "3 m × 4 m = 12 m",
    "2024-05-01 = Friday",
    "x1 + 2 + 2 = 3",
    "5 + = 3",
    "no numbers at all",
    "10 + 5 = 2 dozen",
    "x ** 3 + 2 = 10",
    "\\sqrt{16} + 2 = 6",
    "5 times 3 + 2 = 17",
    "0 = 0/x",
    "5 feet and 3 inches + 2 inches = 65 inches",
]

SEVERAL = [
    ("He sold 48/2 = <<48/2=24>>24 clips and 48+24 = <<48+24=72>>72 altogether. #### 72", [True, True]),
    ("3 × $2 = $6, 2 × $1.5 = $3, so $6 + $3 = $10.", [True, True, False]),
    ("17 + 25 = <<17+25=42>>42, 42 - 5 = 37", [True, True]),
    ("17 + 25 = 42 so 42 - 5 = 37", [True, True]),
    ("17 + 25 = 42, 42 - 5 = 38", [True, False]),
]

FAMILIES = ("chain_sum", "products", "basic_arithmetic", "leg_counting", "simple_equations")
SOURCES = [("golden@2", {}), ("arithmetic@1", {"families": dict.fromkeys(FAMILIES, 1)})]


def verdicts(text: str) -> list[bool]:
    return [step.true for step in find_steps(text)]


@pytest.mark.parametrize("text", TRUE)
def test_a_true_step_is_true(text):
    assert verdicts(text) == [True]


@pytest.mark.parametrize("text", FALSE)
def test_a_false_step_is_false(text):
    assert verdicts(text) == [False]


@pytest.mark.parametrize("text", NO_STEPS)
def test_what_is_no_checkable_arithmetic_is_no_step(text):
    assert verdicts(text) == []


@pytest.mark.parametrize(("text", "expected"), SEVERAL)
def test_steps_are_found_in_order(text, expected):
    assert verdicts(text) == expected


def test_a_step_knows_where_it_stands():
    text = "First: **3 + 4 = 7**, then 7 - 2 = 6 apples."
    assert [text[step.start : step.end] for step in find_steps(text)] == ["3 + 4 = 7", "7 - 2 = 6 apples"]


def test_random_expressions_agree_with_python():
    draw = random.Random(7)
    for _ in range(300):
        value, text = None, ""
        while value is None:
            text = _expression(draw, 3)
            try:
                value = eval(_fractions(text))
            except ZeroDivisionError:
                continue
        assert verdicts(f"{text} = {value.numerator}/{value.denominator}") == [True], text
        wrong = value + Fraction(1, 7)
        assert verdicts(f"{text} = {wrong.numerator}/{wrong.denominator}") == [False], text


def _expression(draw: random.Random, depth: int) -> str:
    if depth == 0:
        return str(draw.randrange(20))
    left, right = _expression(draw, depth - 1), _expression(draw, depth - 1)
    text = f"{left} {draw.choice('+-*/')} {right}"
    return f"({text})" if draw.random() < 0.4 else text


def _fractions(text: str) -> str:
    return " ".join(
        "(" * (part.count("(")) + f"Fraction({part.strip('()')})" + ")" * part.count(")")
        if part.strip("()").isdigit()
        else part
        for part in text.split()
    )


@pytest.mark.parametrize("text_format", ["answer-line", "tags"])
@pytest.mark.parametrize(("source", "config"), SOURCES)
def test_every_generated_trace_reasons_well_and_a_changed_result_is_found(source, config, text_format):
    for trace in build(source, 3, 100, config):
        output = completion_text(trace, text_format)
        checks = check_reasoning(output, trace.final_answer, text_format)
        assert checks.obeys_format
        assert checks.steps == checks.true_steps > 0
        assert checks.answer_follows is True
        last = find_steps(output)[-1]
        changed = output[: last.end] + "1" + output[last.end :]
        assert check_reasoning(changed, trace.final_answer, text_format) == replace(
            checks, true_steps=checks.steps - 1, answer_follows=False
        )


@pytest.mark.parametrize(
    ("output", "text_format", "obeys"),
    [
        ("17 + 25 = 42\nAnswer: 42", "answer-line", True),
        ("17 + 25 = 42\nAnswer: 42\n", "answer-line", True),
        ("Add.\n\n17 + 25 = 42\n\nAnswer: 42", "answer-line", True),
        ("Answer: 42", "answer-line", False),
        ("17 + 25 = 42\nAnswer: 42\nThat is it.", "answer-line", False),
        ("Answer: 41\n17 + 25 = 42\nAnswer: 42", "answer-line", False),
        ("17 + 25 = 42\n**Answer:** 41\nAnswer: 42", "answer-line", False),
        ("17 + 25 = 42\nanswer: 42", "answer-line", False),
        ("17 + 25 = 42\nAnswer:", "answer-line", False),
        ("17 + 25 = 42\nThe Answer: 42", "answer-line", False),
        ("17 + 25 = 42", "answer-line", False),
        ("", "answer-line", False),
        ("<reasoning>17 + 25 = 42</reasoning>\n<answer>42</answer>", "tags", True),
        ("<reasoning>a\nb</reasoning><answer>42</answer>\n", "tags", True),
        ("<reasoning></reasoning><answer>42</answer>", "tags", False),
        ("<reasoning>a</reasoning><answer> </answer>", "tags", False),
        ("<reasoning>a</reasoning><answer>42", "tags", False),
        ("<reasoning>a<answer>42</answer></reasoning>", "tags", False),
        ("<answer>42</answer><reasoning>a</reasoning>", "tags", False),
        ("<reasoning>a</reasoning>so<answer>42</answer>", "tags", False),
        ("<reasoning>a</reasoning><answer>42</answer> bye", "tags", False),
        ("<reasoning>a</reasoning><answer>42</answer><answer>43</answer>", "tags", False),
        ("</reasoning><reasoning><answer>42</answer>", "tags", False),
        ("<answer></answer>", "tags", False),
        ("anything", "", True),
    ],
)
def test_format(output, text_format, obeys):
    assert obeys_format(output, text_format) is obeys


def test_unknown_format_is_an_error():
    with pytest.raises(ValueError, match="it must be one of answer-line, tags"):
        check_reasoning("1 + 1 = 2", "2", "json")


@pytest.mark.parametrize(
    ("output", "answer", "follows"),
    [
        ("17 + 25 = 42", "42", True),
        ("17 + 25 = 43", "43", True),
        ("17 + 25 = 43", "42", False),
        ("17 + 25 = 42, 42 - 2 = 40", "42", False),
        ("17 + 25 = 42", None, False),
        ("17 + 25 = 42", "forty", False),
        ("17 + 25 = 42", "42 apples", True),
        ("17 + 25 = 42", "$42", True),
        ("1000 + 234 = 1234", "1,234", True),
        ("17 + 25 = 42 cm", "42 cm", True),
        ("1 / 4 = 0.25", "1/4", True),
        ("1 / 4 = 25%", "25 %", True),
        ("1 / 4 = 25%", "25", True),
        ("10 / 3 = 3.33", "10/3", True),
        ("10 / 3 = 3.33", "3.33", True),
        ("3 - 8 = -5", "-5", True),
        ("3 - 8 = -5", "5", False),
        ("Nothing to compute.", "42", None),
        ("17 + 25 = 42", "4" * 100_000, False),
    ],
)
def test_the_answer_follows_from_the_last_step(output, answer, follows):
    assert check_reasoning(output, answer, "").answer_follows is follows


@pytest.mark.parametrize(
    ("output", "share"),
    [
        ("", 0.0),
        ("one two three", 0.0),
        ("one two three four", 0.0),
        ("a a a a a", 0.5),
        ("a b c d a b c d", 1 / 5),
        ("A b c d\na B c d", 1 / 5),
        ("yes " * 103, 0.99),
    ],
)
def test_repetition(output, share):
    assert repetition(output) == pytest.approx(share)


def test_no_steps_and_false_steps_are_told_apart():
    none = check_reasoning("It is clear.\nAnswer: 42", "42", "answer-line")
    false = check_reasoning("17 + 25 = 41\nAnswer: 42", "42", "answer-line")
    assert none == ReasoningChecks(True, 0, 0, None, 0.0)
    assert false == ReasoningChecks(True, 1, 0, False, 0.0)


HOSTILE = [
    "(", ")", "=", "1=", "1+", "1/3+", "1--", "*", "**", "9", "9" * 290 + "*", "+1/" + "9" * 290, "\n", "\n=",
    " ", ".", "1,", "2 x ", "1/2 of ", "5 a and 3 ", "2^", "<<1+1=2>>", "Answer: 4\n", "<reasoning>",
    "<answer></answer>", "(1=", "1%", "\\frac{", "1e9", "1/3≈", "9^9^", "5 apples + ", "1²",
    "+1/1000003+1/1000033", "> ", "# * _ >", "Step 1 - ", "answer ",
    "((1+2)*3=9) ", "1 + 2 = 3\n", "Step 1 (", "12/31/2024 ", "2024-05-01 ",
]  # fmt: skip


@pytest.mark.parametrize("pattern", HOSTILE)
def test_hostile_output_takes_linear_time(pattern):
    """100 kB: in quadratic time the suite would stand still here, and deep brackets would overflow."""
    text = "1+1=" + pattern * (100_000 // len(pattern))
    checks = check_reasoning(text, "4", "answer-line")
    assert 0 <= checks.true_steps <= checks.steps
    assert 0 <= checks.repetition <= 1


def test_card_is_the_mean_over_what_each_value_is_about():
    checks = [
        ReasoningChecks(True, 2, 2, True, 0.0),
        ReasoningChecks(True, 2, 1, True, 0.2),
        ReasoningChecks(False, 1, 0, False, 0.0),
        ReasoningChecks(False, 0, 0, None, 0.6),
    ]
    assert reasoning_card(checks, [10, 20, 30, 100], [True, True, False, True]) == ReasoningSummary(
        format_rate=0.5,
        step_count=5,
        true_step_rate=0.6,
        all_steps_true_rate=pytest.approx(1 / 3),
        answer_follows_rate=pytest.approx(2 / 3),
        repetition=pytest.approx(0.2),
        median_tokens=25.0,
        right_for_wrong_reasons=1,
    )


def test_card_without_steps_claims_none():
    card = reasoning_card([ReasoningChecks(True, 0, 0, None, 0.0)], [5], [True])
    assert (card.step_count, card.true_step_rate, card.right_for_wrong_reasons) == (0, 0.0, 0)


def test_card_needs_outputs():
    with pytest.raises(ValueError, match="no outputs"):
        reasoning_card([], [], [])


def test_card_has_the_fields_of_the_message():
    assert list(ReasoningSummary.__dataclass_fields__) == [
        field.name for field in evaluation_pb2.ReasoningCard.DESCRIPTOR.fields
    ]
