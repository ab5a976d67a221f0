"""Multi-step arithmetic from reasoning-gym, each step computed and checked here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tunix_rt.traces.arithmetic_config import ArithmeticConfig
from tunix_rt.traces.expressions import ExpressionError, Solution, solve
from tunix_rt.traces.gym_families import gym_families
from tunix_rt.traces.trace import Step, Trace, TraceError, Violation, content_digest
from tunix_rt.traces.verification import verify

ARITHMETIC = "arithmetic@1"
MAX_SIZE = 200_000
_TRIES_PER_TRACE = 100  # before a family counts as exhausted at this difficulty

Item = Mapping[str, Any]
Problem = tuple[str, str]  # the prompt and the expression that solves it


def arithmetic_traces(size: int, seed: int, config: ArithmeticConfig | None = None) -> list[Trace]:
    """`size` traces with different prompts, a pure function of the arguments.

    reasoning-gym's item i is drawn from `seed + i`, so neighbouring seeds share items: each family
    starts at a point hashed from the seed instead. Items whose truth is wrong, whose divisions are
    uneven or that leave the configured range are passed over. Raises TraceError when a family has no
    more problems at this difficulty.
    """
    config = config or ArithmeticConfig()
    if not 1 <= size <= MAX_SIZE:
        raise TraceError([Violation(path="size", message=f"is {size}; it must be 1 to {MAX_SIZE}.")])
    seen: set[str] = set()
    traces: list[Trace] = []
    for family, count in sorted(_quotas(size, config.families).items()):
        traces += _family_traces(family, count, seed=seed, config=config, seen=seen)
    return sorted(traces, key=lambda trace: hashlib.sha256(f"{seed}:{trace.id}".encode()).digest())


def _quotas(size: int, families: Mapping[str, float]) -> dict[str, int]:
    """How many traces each family gives: its share rounded down, then by the largest remainder."""
    total = sum(families.values())
    shares = {name: size * weight / total for name, weight in families.items()}
    quotas = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (quotas[name] - shares[name], name))
    for name in by_remainder[: size - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def _family_traces(
    family: str, count: int, *, seed: int, config: ArithmeticConfig, seen: set[str]
) -> list[Trace]:
    if count == 0:
        return []
    start = int.from_bytes(hashlib.sha256(f"{ARITHMETIC}:{family}:{seed}".encode()).digest()[:6], "big")
    read, options = _SOURCES[family](config)
    traces: list[Trace] = []
    tries = 0
    for index, item in _items(family, start, options, limit=2_000 + _TRIES_PER_TRACE * count):
        tries += 1
        trace = _trace(family, start, index, item, read, config)
        if trace is None or content_digest(trace) in seen:
            continue
        seen.add(content_digest(trace))
        traces.append(trace)
        if len(traces) == count:
            return traces
    message = (
        f"is too large: {tries} draws of {family} gave {len(traces)} different problems at this "
        f"difficulty, not {count}; ask for fewer, give the family less weight or allow more terms or digits."
    )
    raise TraceError([Violation(path="size", message=message)])


def _items(family: str, start: int, options: dict[str, Any], *, limit: int) -> Iterator[tuple[int, Item]]:
    source = gym_families().create(family, size=limit, seed=start, **options)
    for index in range(limit):
        yield index, source[index]


def _trace(
    family: str,
    start: int,
    index: int,
    item: Item,
    read: Callable[[Item], Problem | None],
    config: ArithmeticConfig,
) -> Trace | None:
    """The checked trace of an item, or None when the item is wrong or outside the configured range."""
    problem = read(item)
    if problem is None:
        return None
    prompt, expression = problem
    try:
        solution = solve(expression)
    except ExpressionError:
        return None
    if str(solution.value) != item["answer"] or not _in_range(solution, config):
        return None
    terms = len(solution.numbers)
    digits = max(len(str(abs(number))) for number in solution.numbers)
    trace = Trace(
        id="",
        prompt=prompt,
        steps=tuple(Step(i=i, type="compute", content=text) for i, text in enumerate(solution.steps)),
        final_answer=str(solution.value),
        answer_type="integer",
        meta={
            "family": family,
            "difficulty": f"{terms} terms, {digits} digit{'s' if digits > 1 else ''}",
            "expression": expression,
            "source_dataset": f"reasoning-gym/{family}",
            "source_index": index,
            "source_seed": start,
        },
    )
    trace = replace(trace, id=f"arithmetic-{content_digest(trace)[:20]}")
    verify(trace)
    return trace


def _in_range(solution: Solution, config: ArithmeticConfig) -> bool:
    values = (*solution.numbers, *solution.results)
    lowest = -config.max_value if config.negatives else 0
    return len(solution.steps) > 0 and all(lowest <= value <= config.max_value for value in values)


def _calculation(item: Item) -> Problem:
    expression = str(item["metadata"]["expression"])
    return f"Calculate {expression}.", expression


def _chain_sum(config: ArithmeticConfig) -> tuple[Callable[[Item], Problem | None], dict[str, Any]]:
    return _calculation, {**_size_options(config), "allow_negation": config.negatives}


def _products(config: ArithmeticConfig) -> tuple[Callable[[Item], Problem | None], dict[str, Any]]:
    return _calculation, {**_size_options(config), "allow_negation": config.negatives}


def _basic_arithmetic(config: ArithmeticConfig) -> tuple[Callable[[Item], Problem | None], dict[str, Any]]:
    """Uses the generator for parentheses even without them: the other one ignores precedence."""

    def read(item: Item) -> Problem | None:
        problem = _calculation(item)
        return problem if config.parentheses or "(" not in problem[1] else None

    # With no negatives wanted, most items are passed over: half of all numbers are drawn below zero.
    options = {"operators": list(config.operators), "allow_negation": False, "allow_parentheses": True}
    return read, {**_size_options(config), **options}


def _leg_counting(config: ArithmeticConfig) -> tuple[Callable[[Item], Problem | None], dict[str, Any]]:
    legs = gym_families().legs

    def read(item: Item) -> Problem | None:
        animals: dict[str, int] = item["metadata"]["animals"]
        if "starfish" in animals:  # has arms
            return None
        listed = ", ".join(f"{animal} {count}" for animal, count in animals.items())
        expression = " + ".join(f"{count} * {legs[animal]}" for animal, count in animals.items())
        return f"Count the legs of all these animals: {listed}.", expression

    most = max(1, config.max_terms // 2)
    least = min(most, max(1, config.min_terms // 2))
    return read, {"min_animals": least, "max_animals": most}


def _simple_equations(config: ArithmeticConfig) -> tuple[Callable[[Item], Problem | None], dict[str, Any]]:
    def read(item: Item) -> Problem | None:
        equation, variable = str(item["metadata"]["equation"]), str(item["metadata"]["variable"])
        match = re.fullmatch(rf"(\d+)\*{variable} ([-+]) (\d+) = (-?\d+)", equation)
        if match is None:
            return None
        factor, sign, constant, total = match.groups()
        inverse = "-" if sign == "+" else "+"
        return f"Solve for {variable}: {equation}", f"( {total} {inverse} {constant} ) / {factor}"

    options = {"operators": ("+", "-", "*"), "operators_weights": [0.5, 0.5, 0.0]}  # "*" allows a factor
    return read, {"min_terms": 2, "max_terms": 2, "max_value": 10**config.max_digits - 1, **options}


def _size_options(config: ArithmeticConfig) -> dict[str, Any]:
    return {
        "min_terms": config.min_terms,
        "max_terms": config.max_terms,
        "min_digits": config.min_digits,
        "max_digits": config.max_digits,
    }


_SOURCES = {
    "basic_arithmetic": _basic_arithmetic,
    "chain_sum": _chain_sum,
    "leg_counting": _leg_counting,
    "products": _products,
    "simple_equations": _simple_equations,
}
