"""The format `boxed`: what obeys it, and where its answer stands."""

from __future__ import annotations

import pytest

from tunix_rt.answers.extract import answer_in_format
from tunix_rt.answers.reasoning import obeys_format
from tunix_rt.answers.score import score_output
from tunix_rt.traces.choices import answer_prefix
from tunix_rt.traces.text import completion_text, prompt_messages
from tunix_rt.traces.trace import Step, Trace


def test_a_trace_is_written_with_its_answer_in_a_box() -> None:
    trace = Trace("t", "2+2?", (Step(0, "compute", "2+2 = 4"),), "4")
    assert completion_text(trace, "boxed") == "2+2 = 4\n\\boxed{4}"


def test_the_prompt_asks_for_the_box() -> None:
    assert prompt_messages("2+2?", "boxed")[0]["content"] == (
        "Show each step on a line, then the result in \\boxed{}."
    )


def test_a_choice_stands_inside_the_box() -> None:
    assert answer_prefix("boxed") == "\\boxed{"


@pytest.mark.parametrize(
    ("output", "obeys"),
    [
        ("2+2 = 4\n\\boxed{4}", True),
        ("2+2 = 4\n$\\boxed{4}$", True),
        ("\\boxed{4}", False),
        ("2+2 = 4\nso \\boxed{4}", False),
        ("\\boxed{3}\n2+2 = 4\n\\boxed{4}", False),
        ("2+2 = 4\n\\boxed{}", False),
        ("2+2 = 4\nAnswer: 4", False),
    ],
)
def test_the_format_is_steps_and_then_one_box(output: str, obeys: bool) -> None:
    assert obeys_format(output, "boxed") is obeys


def test_the_answer_is_the_inside_of_the_last_line() -> None:
    assert answer_in_format("so\n\\boxed{\\frac{1}{2}}", "boxed") == "\\frac{1}{2}"
    assert answer_in_format("so\n\\boxed{4} it is", "boxed") is None


def test_the_strict_score_demands_the_box() -> None:
    assert score_output("so\n\\boxed{4}", "4", format="boxed").strict_score == 1.0
    assert score_output("so\nAnswer: 4", "4", format="boxed").strict_score == 0.0
