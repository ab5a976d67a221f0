"""The golden set: a hundred small traces, the same for ever, every step true."""

from __future__ import annotations

import hashlib

from tunix_rt.traces.draws import Draws
from tunix_rt.traces.expressions import solve
from tunix_rt.traces.trace import Step, Trace, content_digest
from tunix_rt.traces.verification import verify

GOLDEN = "golden@2"
GOLDEN_SIZE = 100
_SUMS = 60

_NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jana")
_THINGS = ("apples", "books", "coins", "eggs", "marbles", "pens", "shells", "stamps", "tickets", "toys")
_WORD_LIST = (
    "apple banana bridge candle carrot castle cherry circle cloud desert dragon engine feather flower forest "
    "garden guitar hammer island jacket kettle ladder lemon lantern market mirror mountain needle ocean "
    "orange paper pencil piano planet pocket rabbit ribbon river rocket saddle school silver spider spring "
    "station summer sunset table thunder ticket tiger tunnel valley village violin wagon whale window winter"
)
_WORDS = tuple(_WORD_LIST.split())


def golden_v2(seed: int = 42) -> list[Trace]:
    """A hundred traces: sixty sums and forty word tasks, all prompts different, all steps verified."""
    draws = Draws(seed)
    traces: list[Trace] = []
    seen: set[str] = set()
    while len(traces) < GOLDEN_SIZE:
        index = len(traces)
        family, prompt, facts, expression = _sum(draws) if index < _SUMS else _word_task(draws, index)
        trace = _trace(index, family, prompt, facts, expression)
        digest = content_digest(trace)
        if digest not in seen:
            seen.add(digest)
            verify(trace)
            traces.append(trace)
    return traces


def golden_digest(traces: list[Trace]) -> str:
    """SHA-256 over prompts, steps and answers, to tell at a glance that a set is unchanged."""
    rows = [(t.id, t.prompt, tuple(s.content for s in t.steps), t.final_answer) for t in traces]
    return hashlib.sha256(repr(rows).encode("utf-8")).hexdigest()


def _trace(index: int, family: str, prompt: str, facts: list[str], expression: str) -> Trace:
    solution = solve(expression)
    contents = [*facts, *solution.steps]
    return Trace(
        id=f"golden-{index:03}",
        prompt=prompt,
        steps=tuple(
            Step(i=i, type="fact" if i < len(facts) else "compute", content=text)
            for i, text in enumerate(contents)
        ),
        final_answer=str(solution.value),
        answer_type="integer",
        meta={
            "family": family,
            "difficulty": f"{len(contents)} steps",
            "expression": expression,
            "source_dataset": GOLDEN,
            "source_index": index,
        },
    )


def _sum(draws: Draws) -> tuple[str, str, list[str], str]:
    terms = draws.between(2, 4)
    total = draws.between(10, 60)
    expression = str(total)
    for _ in range(terms - 1):
        term = draws.between(2, 40)
        minus = term <= total and draws.between(0, 1) == 1
        total += -term if minus else term
        expression += f" {'-' if minus else '+'} {term}"
    return "sum", f"Calculate {expression}.", [], expression


def _word_task(draws: Draws, index: int) -> tuple[str, str, list[str], str]:
    name, things = draws.choice(_NAMES), draws.choice(_THINGS)
    a, b, c = draws.between(10, 40), draws.between(2, 9), draws.between(2, 9)
    kind = index % 4
    if kind == 0:
        asked = f"How many {things} does {name} have now?"
        prompt = f"{name} has {a} {things}, finds {b} more and gives {c} away. {asked}"
        return "story", prompt, [], f"{a} + {b} - {c}"
    if kind == 1:
        prompt = f"{name} fills {b} boxes with {c} {things} each and has {a} left over. How many in all?"
        return "story", prompt, [], f"{b} * {c} + {a}"
    if kind == 2:
        shared = f"{b} friends share {b * c} {things} equally."
        prompt = f"{shared} {name}, one of them, already has {a}. How many does {name} have then?"
        return "story", prompt, [], f"{b * c} / {b} + {a}"
    first, second = draws.two(_WORDS)
    prompt = f'How many letters do "{first}" and "{second}" have together?'
    facts = [f'"{word}" has {len(word)} letters' for word in (first, second)]
    return "letters", prompt, facts, f"{len(first)} + {len(second)}"
