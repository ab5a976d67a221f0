"""Scoring one generated output against the expected answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunix_rt.answers.equivalence import DEFAULT_TOLERANCE, SameFormula, detect_type, equivalent
from tunix_rt.answers.extract import FORMATS, answer_in_format, extract_answer
from tunix_rt.answers.pattern import check_pattern

SCORER = "exact-answer@2"

Outcome = Literal["correct", "wrong", "no_answer", "truncated", "failed"]
FINISH_REASONS = ("", "stop", "length", "error")


@dataclass(frozen=True)
class ItemOutcome:
    """What became of one evaluation item.

    `score` is 1.0 for "correct", else 0.0. `strict_score` is 1.0 only if the right answer also stands in
    the asked-for format. `extracted` is the answer that was compared, or None; `rule` names how it was
    found. `timed_out` says that a "failed" comparison ran past its deadline.
    """

    outcome: Outcome
    score: float
    extracted: str | None
    rule: str
    strict_score: float = 0.0
    timed_out: bool = False


def score_output(
    output: str,
    expected: str,
    answer_type: str = "",
    aliases: Sequence[str] = (),
    finish_reason: str = "stop",
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    format: str = "",  # noqa: A002
    pattern: str = "",
    formulas: SameFormula | None = None,
) -> ItemOutcome:
    """Extracts the answer of an output and compares it with the expected one.

    `finish_reason` is "stop", "length" (cut at the token limit), "error" (generation failed) or ""
    (unknown). A cut output counts only with an answer that it marks as such and that something
    follows: the last number of half a calculation is no answer, nor is `Answer: 1` of `Answer: 12`, and
    the outcome is "truncated".
    `format` is the one that was asked for, "answer-line", "tags" or "boxed"; with "" any marked answer
    counts for the strict score. `pattern` takes the place of the extraction rules; ValueError says what is
    wrong with one that `check_pattern` refuses. Without `formulas`, expressions beyond rational functions
    raise UndecidedError.
    """
    _check(finish_reason, format, pattern)
    if finish_reason == "error":
        return ItemOutcome(outcome="failed", score=0.0, extracted=None, rule="none")
    found = extract_answer(output, answer_type or detect_type(expected), pattern=pattern)
    if finish_reason == "length" and (not found.explicit or found.at_end):
        return ItemOutcome(outcome="truncated", score=0.0, extracted=None, rule=found.rule)
    if found.answer is None:
        return ItemOutcome(outcome="no_answer", score=0.0, extracted=None, rule=found.rule)

    def is_right(answer: str) -> bool:
        return equivalent(answer, expected, answer_type, aliases, tolerance, formulas)

    right = is_right(found.answer)
    strict = right and found.explicit
    if right and format:
        formatted = answer_in_format(output, format)
        strict = formatted is not None and (formatted == found.answer or is_right(formatted))
    return ItemOutcome(
        outcome="correct" if right else "wrong",
        score=float(right),
        extracted=found.answer,
        rule=found.rule,
        strict_score=float(strict),
    )


def _check(finish_reason: str, format: str, pattern: str) -> None:  # noqa: A002
    if finish_reason not in FINISH_REASONS:
        raise ValueError(
            f"finish_reason is {finish_reason!r}; it must be one of {', '.join(FINISH_REASONS[1:])}."
        )
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; it must be one of {', '.join(FORMATS[1:])}.")
    problem = check_pattern(pattern) if pattern else None
    if problem is not None:
        raise ValueError(f"pattern {problem}")
