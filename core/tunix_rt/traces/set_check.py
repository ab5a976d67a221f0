"""Whether the items of a set can be scored: answers, types and duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from tunix_rt.answers.dates import parse_date
from tunix_rt.answers.equivalence import detect_type, equivalent
from tunix_rt.answers.expressions import values_of
from tunix_rt.answers.extract import clean_answer
from tunix_rt.answers.numbers import parse_quantity, plain_text
from tunix_rt.traces.contamination import loose_prompt
from tunix_rt.traces.trace import Trace, Violation

_NUMBER_TYPES = ("integer", "decimal", "fraction", "percentage", "currency")


@dataclass(frozen=True)
class SetReport:
    """What a set holds, and every fault of its items; the path of a fault is the item's id.

    `sections` and `types` count items; an item without a section counts under "". `duplicates` is that of
    `duplicate_count`.
    """

    items: int
    duplicates: int
    sections: Mapping[str, int]
    types: Mapping[str, int]
    faults: tuple[Violation, ...]


def check_set(traces: Sequence[Trace]) -> SetReport:
    """Checks that each item has a typed answer that means something, and that no question stands twice."""
    faults: list[Violation] = []
    first: dict[str, Trace] = {}
    for trace in traces:
        faults += [Violation(trace.id, text) for text in _answer_faults(trace)]
        twin = first.setdefault(loose_prompt(trace.prompt), trace)
        if twin is not trace:
            faults.append(Violation(trace.id, _twin_text(trace, twin)))
    return SetReport(
        items=len(traces),
        duplicates=duplicate_count(traces),
        sections=_counted(str(trace.meta.get("section", "")) for trace in traces),
        types=_counted(trace.answer_type for trace in traces),
        faults=tuple(faults),
    )


def duplicate_count(traces: Sequence[Trace]) -> int:
    """Items whose question stands more than once, less one for each question.

    Case, spacing and punctuation aside, as in `loose_prompt`.
    """
    return len(traces) - len({loose_prompt(trace.prompt) for trace in traces})


def _answer_faults(trace: Trace) -> list[str]:
    answer, kind = trace.final_answer, trace.answer_type
    if not clean_answer(answer):
        return ["has no expected answer; give one to score by."]
    if not kind:
        return [
            f"has no answer_type; `{answer[:80]}` would be read as {detect_type(answer)}. Say which it is."
        ]
    if not _readable(answer, kind):
        return [f"expects `{answer[:80]}`, which is no {kind}; correct the answer or its answer_type."]
    if not equivalent(answer, answer, kind):
        return [f"expects `{answer[:80]}`, which as {kind} is not even equal to itself; rewrite it."]
    return []


def _readable(answer: str, kind: str) -> bool:
    """Whether an answer can be read as its type in one way; texts, lists and sets always can."""
    if kind in _NUMBER_TYPES:
        quantity = parse_quantity(clean_answer(answer))
        if quantity is None:
            return False
        return kind != "integer" or bool(quantity.unit) or quantity.value.denominator == 1
    if kind == "date":
        date = parse_date(plain_text(clean_answer(answer)))
        return date is not None and date.order != "ambiguous"
    if kind == "expression":
        return values_of(clean_answer(answer)) is not None
    if kind == "boolean":
        return equivalent("yes", answer, kind) or equivalent("no", answer, kind)
    if kind == "choice":
        return any(equivalent(letter, answer, kind) for letter in ascii_uppercase)
    return True


def _twin_text(trace: Trace, twin: Trace) -> str:
    kind = trace.answer_type
    if trace.final_answer and not equivalent(trace.final_answer, twin.final_answer, kind):
        return (
            f"asks what {twin.id} asks, but expects `{trace.final_answer[:80]}`, not "
            f"`{twin.final_answer[:80]}`; leave one out."
        )
    return f"asks what {twin.id} asks; leave one out."


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
