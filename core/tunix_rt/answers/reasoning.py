"""How an output reasons, apart from whether its answer is right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

from tunix_rt.answers.calculation import NoExpressionError, evaluate, tokenize
from tunix_rt.answers.numbers import parse_quantity
from tunix_rt.answers.steps import Step, find_steps

FORMATS = ("", "answer-line", "tags", "boxed")
GRAM_WORDS = 4
MAX_ANSWER = 400  # characters; a longer text is no number

_ANSWER_LINE = re.compile(r"Answer: ?\S.*")
_ANY_ANSWER_LINE = re.compile(r"^[ \t>*_#]*answer[*_]{0,3}[ \t]*:", re.IGNORECASE | re.MULTILINE)
_BOXED_LINE = re.compile(r"\W{0,3}\\(?:boxed|fbox)\s*\{(.*)\}\W{0,3}")
_ANY_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")


@dataclass(frozen=True)
class ReasoningChecks:
    """What can be checked about the reasoning of one output.

    `steps` is the number of arithmetic steps found, `true_steps` how many of them are true: an
    output without steps has 0 of 0. `answer_follows` says whether the answer is the result of the
    last step, None where there are no steps. `repetition` is the share of four-word sequences that
    occurred before, in `[0, 1]`.
    """

    obeys_format: bool
    steps: int
    true_steps: int
    answer_follows: bool | None
    repetition: float


@dataclass(frozen=True)
class ReasoningSummary:
    """The checks of many outputs; the fields are those of the message `ReasoningCard`."""

    format_rate: float
    step_count: int
    true_step_rate: float
    all_steps_true_rate: float
    answer_follows_rate: float
    repetition: float
    median_tokens: float
    right_for_wrong_reasons: int


def check_reasoning(
    output: str,
    answer: str | None,
    format: str,  # noqa: A002
) -> ReasoningChecks:
    """Checks the format, each arithmetic step, the way to the answer and repetition.

    `answer` is the answer that was extracted, if any; `format` is "answer-line", "tags", "boxed" or "" for
    none, which every output obeys. Takes time linear in the length of the output.
    """
    steps = find_steps(output)
    return ReasoningChecks(
        obeys_format=obeys_format(output, format),
        steps=len(steps),
        true_steps=sum(step.true for step in steps),
        answer_follows=_follows(answer, steps[-1]) if steps else None,
        repetition=repetition(output),
    )


def obeys_format(output: str, format: str) -> bool:  # noqa: A002
    """Whether an output has the asked-for form, and nothing beside it.

    "answer-line": one line or more, then the only line `Answer: …` as the last. "tags": one
    `<reasoning>` block, then one `<answer>` block, both closed and not empty. "boxed": one line or
    more, then the only `\\boxed{…}`, alone on the last line.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; it must be one of {', '.join(FORMATS[1:])}.")
    if format == "tags":
        return _obeys_tags(output.strip())
    if format == "boxed":
        return _obeys_boxed(output.rstrip())
    return not format or _obeys_answer_line(output.rstrip())


def repetition(output: str) -> float:
    """The share of four-word sequences that occurred before in the output; 0 for fewer than four words."""
    words = output.casefold().split()
    grams = [tuple(words[place : place + GRAM_WORDS]) for place in range(len(words) - GRAM_WORDS + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def reasoning_card(
    checks: Sequence[ReasoningChecks], tokens: Sequence[int], correct: Sequence[bool]
) -> ReasoningSummary:
    """The means over outputs; `tokens` are generated tokens, `correct` whether the answer is right.

    Each rate is over the outputs, or steps, that it is about, and 0 where there are none: then
    `step_count` is 0 too. Raises ValueError without outputs.
    """
    if not checks:
        raise ValueError("There are no outputs to summarize.")
    with_steps = [check for check in checks if check.steps]
    steps = sum(check.steps for check in with_steps)
    all_true = sum(check.true_steps == check.steps for check in with_steps)
    return ReasoningSummary(
        format_rate=_share(sum(check.obeys_format for check in checks), len(checks)),
        step_count=steps,
        true_step_rate=_share(sum(check.true_steps for check in with_steps), steps),
        all_steps_true_rate=_share(all_true, len(with_steps)),
        answer_follows_rate=_share(sum(bool(c.answer_follows) for c in with_steps), len(with_steps)),
        repetition=sum(check.repetition for check in checks) / len(checks),
        median_tokens=float(median(tokens)),
        right_for_wrong_reasons=sum(
            right and check.true_steps < check.steps for check, right in zip(checks, correct, strict=True)
        ),
    )


def _share(count: int, size: int) -> float:
    return count / size if size else 0.0


def _obeys_answer_line(output: str) -> bool:
    before, _, last = output.rpartition("\n")
    return (
        _ANSWER_LINE.fullmatch(last) is not None
        and bool(before.strip())
        and _ANY_ANSWER_LINE.search(before) is None
    )


def _obeys_boxed(output: str) -> bool:
    before, _, last = output.rpartition("\n")
    boxed = _BOXED_LINE.fullmatch(last.strip())
    return bool(boxed and boxed.group(1).strip() and before.strip()) and not _ANY_BOXED.search(before)


def _obeys_tags(output: str) -> bool:
    if any(output.count(tag) != 1 for tag in _TAGS):
        return False
    start, reasoning_end, answer_start, _ = (output.index(tag) for tag in _TAGS)
    if not (start == 0 and output.endswith(_TAGS[3]) and start < reasoning_end < answer_start):
        return False
    reasoning = output[len(_TAGS[0]) : reasoning_end]
    between = output[reasoning_end + len(_TAGS[1]) : answer_start]
    answer = output[answer_start + len(_TAGS[2]) : -len(_TAGS[3])]
    return bool(reasoning.strip()) and not between.strip() and bool(answer.strip())


def _follows(answer: str | None, last: Step) -> bool:
    """Whether an answer is the result of a step, as a number whatever its unit."""
    if not answer or len(answer) > MAX_ANSWER:
        return False
    return not _answer_values(answer).isdisjoint(last.results)


def _answer_values(answer: str) -> set[Fraction]:
    """The values that an answer may be read as; none for one without a number."""
    values: set[Fraction] = set()
    quantity = parse_quantity(answer)
    if quantity is not None:
        values.add(quantity.value)
    written = [token for token in tokenize(answer) if token.kind not in {"word", "mark", "label"}]
    for percent in (Fraction(1), Fraction(1, 100)):
        try:
            values.add(evaluate(written, percent=percent))
        except (NoExpressionError, ZeroDivisionError):
            continue
    return values
