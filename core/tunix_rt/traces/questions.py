"""Questions of an evaluation set: computed one way, proved another way, and all different."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from tunix_rt.answers.equivalence import equivalent
from tunix_rt.traces.draws import Draws
from tunix_rt.traces.expressions import solve
from tunix_rt.traces.trace import Step, Trace, TraceError, Violation, content_digest
from tunix_rt.traces.verification import verify

LEVELS = ("easy", "medium", "hard")
_TRIES = 2_000  # before a maker counts as exhausted


@dataclass(frozen=True)
class Question:
    """A question with its answer. `proved` says whether a second computation has confirmed it.

    An `expression` that gives the answer is computed too, and its operations become the steps. The
    answer is one of the `choices`, where there are any.
    """

    prompt: str
    answer: str
    answer_type: str
    proved: bool
    aliases: tuple[str, ...] = ()
    expression: str = ""
    choices: tuple[str, ...] = ()


Maker = Callable[[Draws, int], Question]  # the int is the level, from 0


@dataclass(frozen=True)
class EvalSet:
    """A set of questions by versioned name; `makers` are (section, category, maker)."""

    name: str
    size: int
    makers: Sequence[tuple[str, str, Maker]]


def eval_set_traces(made: EvalSet, seed: int, size: int, config: Mapping[str, object]) -> list[Trace]:
    """The first `size` items of a set, a pure function of name and seed; makers and levels take turns.

    Raises TraceError for a configuration or a size that the set does not have.
    """
    violations = [
        Violation(path=f"config.{key}", message=f"is not a known key; {made.name} has no configuration.")
        for key in sorted(config)
    ]
    if not 1 <= size <= made.size:
        message = f"is {size}; {made.name} has 1 to {made.size} traces."
        violations.append(Violation(path="size", message=message))
    if violations:
        raise TraceError(violations)
    digest = hashlib.sha256(f"{made.name}:{seed}".encode()).digest()
    draws = Draws(int.from_bytes(digest[:8], "big"))
    seen: set[str] = set()
    traces: list[Trace] = []
    for index in range(size):
        section, category, maker = made.makers[index % len(made.makers)]
        level = index // len(made.makers) % len(LEVELS)
        question = _new_question(maker, draws, level, seen)
        meta: dict[str, object] = {
            "section": section,
            "category": category,
            "difficulty": LEVELS[level],
            "source_dataset": made.name,
            "source_index": index,
        }
        if question.choices:
            meta["choices"] = _turned(question, index)
        traces.append(_trace(f"{made.name.replace('@', '-v')}-{index:03}", question, meta))
    return traces


def exact_text(value: Fraction) -> str:
    """A number with a finite decimal expansion, written out: `3.25`, `-4`. Raises ValueError for others."""
    places = 0
    while (value * 10**places).denominator != 1:
        places += 1
        if places > 20:
            raise ValueError(f"{value} has no short decimal expansion.")
    digits = str(abs(int(value * 10**places))).zfill(places + 1)
    text = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return f"-{text}" if value < 0 else text


def number_type(value: Fraction) -> str:
    """The answer type of an exact number that is written as a decimal."""
    return "integer" if value.denominator == 1 else "decimal"


def _turned(question: Question, index: int) -> list[str]:
    """The choices, turned so that each place is the right one equally often."""
    shift = question.choices.index(question.answer) - index % len(question.choices)
    return [*question.choices[shift:], *question.choices[:shift]]


def _trace(name: str, question: Question, meta: dict[str, object]) -> Trace:
    trace = Trace(
        id=name,
        prompt=question.prompt,
        final_answer=question.answer,
        answer_type=question.answer_type,
        aliases=question.aliases,
        meta=meta,
    )
    if not question.expression:
        return trace
    steps = tuple(
        Step(i=i, type="compute", content=text) for i, text in enumerate(solve(question.expression).steps)
    )
    trace = replace(trace, steps=steps, meta={**meta, "expression": question.expression})
    verify(trace)
    return trace


def _new_question(maker: Maker, draws: Draws, level: int, seen: set[str]) -> Question:
    for _ in range(_TRIES):
        question = maker(draws, level)
        digest = content_digest(Trace(id="", prompt=question.prompt))
        if digest in seen:
            continue
        seen.add(digest)
        kind, aliases = question.answer_type, question.aliases
        assert question.proved, question
        assert equivalent(question.answer, question.answer, kind, aliases=aliases), question
        return question
    raise AssertionError(f"{maker.__name__} has no more questions at level {level}")
