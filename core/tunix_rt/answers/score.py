"""Scoring one generated output against the expected answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunix_rt.answers.equivalence import DEFAULT_TOLERANCE, equivalent
from tunix_rt.answers.extract import extract_answer

SCORER = "exact-answer@1"

Outcome = Literal["correct", "wrong", "no_answer", "truncated", "failed"]
FINISH_REASONS = ("", "stop", "length", "error")


@dataclass(frozen=True)
class ItemOutcome:
    """What became of one evaluation item.

    `score` is 1.0 for "correct", else 0.0. `extracted` is the answer that was compared, or None;
    `rule` names how it was found.
    """

    outcome: Outcome
    score: float
    extracted: str | None
    rule: str


def score_output(
    output: str,
    expected: str,
    answer_type: str = "",
    aliases: Sequence[str] = (),
    finish_reason: str = "stop",
    *,
    tolerance: float = DEFAULT_TOLERANCE,
) -> ItemOutcome:
    """Extracts the answer of an output and compares it with the expected one.

    `finish_reason` is "stop", "length" (cut at the token limit), "error" (generation failed) or ""
    (unknown). A cut output counts only with an answer that it marks as such: the last number of
    half a calculation is no answer, and the outcome is "truncated".
    """
    if finish_reason not in FINISH_REASONS:
        raise ValueError(
            f"finish_reason is {finish_reason!r}; it must be one of {', '.join(FINISH_REASONS[1:])}."
        )
    if finish_reason == "error":
        return ItemOutcome(outcome="failed", score=0.0, extracted=None, rule="none")
    found = extract_answer(output)
    if finish_reason == "length" and not found.explicit:
        return ItemOutcome(outcome="truncated", score=0.0, extracted=None, rule=found.rule)
    if found.answer is None:
        return ItemOutcome(outcome="no_answer", score=0.0, extracted=None, rule=found.rule)
    right = equivalent(found.answer, expected, answer_type, aliases=aliases, tolerance=tolerance)
    return ItemOutcome(
        outcome="correct" if right else "wrong",
        score=1.0 if right else 0.0,
        extracted=found.answer,
        rule=found.rule,
    )
