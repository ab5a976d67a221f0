"""Answers that are plausible and wrong, and outputs that reach them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tunix_rt.answers.dates import is_date
from tunix_rt.answers.equivalence import detect_type, equivalent
from tunix_rt.answers.lists import split_items
from tunix_rt.answers.score import ItemOutcome, score_output
from tunix_rt.traces.draws import Draws
from tunix_rt.traces.text import completion_text
from tunix_rt.traces.trace import Step, Trace

_TRIES = 24
_OPPOSITES = {
    "yes": "no", "true": "false", "correct": "incorrect", "y": "n", "t": "f",
    "no": "yes", "false": "true", "incorrect": "correct", "n": "y", "f": "t",
}  # fmt: skip


class Rules(Protocol):
    """What finds answers right and wrong."""

    def score(
        self,
        output: str,
        expected: str,
        answer_type: str = "",
        aliases: Sequence[str] = (),
        finish_reason: str = "stop",
        *,
        format: str = "",  # noqa: A002
    ) -> ItemOutcome:
        """As `score_output`."""

    def equivalent(
        self, predicted: str, expected: str, answer_type: str = "", aliases: Sequence[str] = ()
    ) -> bool:
        """As `equivalent`."""


class PureRules:
    """The rules without those for formulas, which need a process of their own: they raise ValueError."""

    score = staticmethod(score_output)
    equivalent = staticmethod(equivalent)


@dataclass(frozen=True)
class Corrupted:
    """A right and a wrong output of an item; `in_steps` if a step of the wrong one is changed too."""

    right: str
    wrong: str
    wrong_answer: str
    in_steps: bool


def corrupted(
    trace: Trace,
    others: Sequence[str],
    *,
    format: str,  # noqa: A002
    seed: int,
    rules: Rules,
) -> Corrupted:
    """The item's trace as a right output, and the same with a wrong final answer.

    In about half of the items the last step that states the answer is changed with it. `others` are
    answers of other items, which texts without a number are exchanged for. A pure function of its
    arguments: the draws are made from SHA-256 of seed and id. The rules find the one right and the other
    wrong; raises ValueError for an item for which that cannot be had.
    """
    if not trace.final_answer:
        raise ValueError("there is no answer whose truth is known")
    draws = _draws(seed, trace.id)
    plain = replace(trace, completion="")
    right = completion_text(plain, format)
    if _outcome(right, trace, format, rules) != "correct":
        raise ValueError("the rules do not find the item's own answer right")
    answer = wrong_answer(trace, others, draws, rules)
    steps, changed = plain.steps, False
    if draws.between(0, 1):
        steps, changed = _changed_steps(plain, answer)
    wrong = completion_text(replace(plain, final_answer=answer, steps=steps), format)
    if _outcome(wrong, trace, format, rules) != "wrong":
        raise ValueError(f"the rules do not find the answer {answer!r} wrong")
    return Corrupted(right, wrong, answer, changed)


def wrong_answer(trace: Trace, others: Sequence[str], draws: Draws, rules: Rules) -> str:
    """A plausible answer by the type of the right one, checked to be wrong. Raises ValueError for none."""
    kind = trace.answer_type or detect_type(trace.final_answer)
    for candidate in _candidates(trace.final_answer, kind, others, draws):
        fitting = kind != "date" or is_date(candidate) or not is_date(trace.final_answer)
        same = rules.equivalent(candidate, trace.final_answer, trace.answer_type, trace.aliases)
        if candidate.strip() and fitting and not same:
            return candidate
    raise ValueError(f"no wrong answer can be made from {trace.final_answer[:80]!r}")


def _candidates(answer: str, kind: str, others: Sequence[str], draws: Draws) -> Iterator[str]:
    if kind == "boolean":
        yield from _opposite(answer)
    if kind == "choice":
        yield from _other_letters(answer, draws)
    if kind != "text":
        yield from _other_digits(answer, draws)
    if kind in {"list", "multiset", "set"}:
        yield from _other_items(answer, kind, draws)
    if kind == "expression":
        yield from (answer.replace(a, b, 1) for a, b in ("+-", "-+", "*+") if a in answer)
    same_kind = [other for other in others if kind == "text" or detect_type(other) == kind]
    if same_kind:
        yield from (draws.choice(same_kind) for _ in range(_TRIES))
    if kind == "text":
        yield from _other_digits(answer, draws)


def _opposite(answer: str) -> Iterator[str]:
    match = re.search(r"[A-Za-z]+", answer)
    word = _OPPOSITES.get(match.group().casefold()) if match else None
    if match and word:
        styled = word.capitalize() if match.group()[0].isupper() else word
        yield answer[: match.start()] + styled + answer[match.end() :]


def _other_letters(answer: str, draws: Draws) -> Iterator[str]:
    match = re.search(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", answer)
    if match is None:
        return
    first = "A" if match.group().isupper() else "a"
    last = max(ord(first) + 3, ord(match.group()))
    letters = [chr(code) for code in range(ord(first), last + 1) if chr(code) != match.group()]
    for _ in range(_TRIES):
        yield answer[: match.start()] + draws.choice(letters) + answer[match.end() :]


def _other_digits(answer: str, draws: Draws) -> Iterator[str]:
    """The answer with one digit changed; a leading one never to 0."""
    places = [match.start() for match in re.finditer(r"[0-9]", answer)]
    if not places:
        return
    for _ in range(_TRIES):
        place = draws.choice(places)
        before, after = answer[:place], answer[place + 1 :]
        leading = after[:1].isdigit() and not before.endswith(tuple("0123456789.,"))
        digits = [digit for digit in "0123456789"[int(leading) :] if digit != answer[place]]
        yield before + draws.choice(digits) + after


def _other_items(answer: str, kind: str, draws: Draws) -> Iterator[str]:
    """The collection without an item; a list also in another order."""
    items = split_items(answer)
    if len(items) < 2:
        return
    opening, closing = ("{", "}") if answer.strip().startswith("{") else ("", "")
    if kind == "list":
        yield ", ".join([*items[1:], items[0]])
    left_out = draws.between(0, len(items) - 1)
    yield opening + ", ".join(items[:left_out] + items[left_out + 1 :]) + closing


def _changed_steps(trace: Trace, answer: str) -> tuple[tuple[Step, ...], bool]:
    """The steps with the wrong answer in the last one that states the right one, and whether one does."""
    stated = re.compile(rf"(?<![\w.,]){re.escape(trace.final_answer)}(?![\w]|[.,]\d)")
    for index in range(len(trace.steps) - 1, -1, -1):
        step = trace.steps[index]
        matches = list(stated.finditer(step.content))
        if matches:
            start, end = matches[-1].span()
            content = step.content[:start] + answer + step.content[end:]
            return (*trace.steps[:index], replace(step, content=content), *trace.steps[index + 1 :]), True
    return trace.steps, False


def _outcome(output: str, trace: Trace, format: str, rules: Rules) -> str:  # noqa: A002
    return rules.score(output, trace.final_answer, trace.answer_type, trace.aliases, format=format).outcome


def _draws(seed: int, name: str) -> Draws:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return Draws(int.from_bytes(digest[:8], "big"))
