"""The arithmetic steps that a text claims, such as `17 + 25 = 42`, and whether each is true."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

from tunix_rt.answers.arithmetic_runs import OPERANDS, RELATIONS, Run, arithmetic_runs
from tunix_rt.answers.calculation import NoExpressionError, Token, evaluate

_RELATION = re.compile(r"[=＝≈≃≅]|\\approx")
_PERCENTS = (Fraction(1, 100), Fraction(1))  # "20 % of 50" is 10, and "5 / 20 * 100 = 25 %" is right too


@dataclass(frozen=True)
class Step:
    """A chain of equal expressions `text[start:end]`, and whether all of them are equal.

    `results` are the values that the chain ends with: two where a percent sign can be read in two ways.
    """

    start: int
    end: int
    true: bool
    results: tuple[Fraction, ...]


def find_steps(text: str) -> tuple[Step, ...]:
    """The arithmetic steps of a text in their order; takes time linear in its length.

    A step is a chain of expressions joined by `=` or `≈` with at least one operation. What cannot
    be checked without guessing is none: variables, questions, different units, words for numbers.
    After `≈` a rounded value is true, after `=` one with two or more decimals of a value that has no
    finite decimal expansion (`10 / 3 = 3.33`); all else is compared exactly.
    """
    steps: list[Step] = []
    if not _RELATION.search(text):
        return ()
    for run in arithmetic_runs(text):
        for chain in _chains(run):
            step = _step(chain)
            if step is not None:
                steps.append(step)
    return tuple(steps)


@dataclass(frozen=True)
class _Side:
    """One expression of a chain; `relation` joins it to the one before."""

    tokens: tuple[Token, ...]
    relation: str
    cut: bool = False  # an ellipsis follows
    bullet: bool = False  # a minus before it may be its sign

    @cached_property
    def divided(self) -> list[Fraction | None]:
        """The values it may have where a percent sign divides by 100. Raises NoExpressionError."""
        return self.values(_PERCENTS[0])

    def values(self, percent: Fraction) -> list[Fraction | None]:
        """The values it may have; None is undefined. Raises NoExpressionError."""
        try:
            value = evaluate(self.tokens, percent=percent)
            if not self.bullet:
                return [value]
            return [value, evaluate((_MINUS, *self.tokens), percent=percent)]
        except ZeroDivisionError:
            return [None]

    @cached_property
    def operations(self) -> int:
        before = (None, *(token for token in self.tokens if token.kind not in {"label", "unit"}))
        return sum(
            token.kind in {"power", "square"}
            or (token.kind == "operator" and left is not None and left.kind in OPERANDS)
            or (token.kind == "open" and left is not None and left.kind in OPERANDS)
            for left, token in pairwise(before)
            if token is not None
        )

    @property
    def literal(self) -> str | None:
        """The number as written, if the side is nothing but a number, its sign and its unit aside."""
        numbers = [token.text for token in self.tokens if token.kind == "number"]
        rest = {token.kind for token in self.tokens} - {"number", "label", "unit", "percent", "operator"}
        return numbers[0] if len(numbers) == 1 and not rest and not self.operations else None


_MINUS = Token("operator", "-", 0, 0, False, False)


def _chains(run: Run) -> Iterator[list[_Side]]:
    """Sequences of at least two expressions that are said to be equal."""
    chain: list[_Side] = []
    sides = list(_sides(run))
    for place, side in enumerate(sides):
        broken = (place == 0 and run.start_broken) or (place == len(sides) - 1 and run.end_broken)
        trimmed = None if broken else _trimmed(side)
        if trimmed is not None and _is_expression(trimmed):
            chain.append(trimmed)
            continue
        if len(chain) > 1:
            yield chain
        chain = []
    if len(chain) > 1:
        yield [*chain[:-1], replace(chain[-1], cut=True)] if run.cut else chain


def _sides(run: Run) -> Iterator[_Side]:
    tokens: list[Token] = []
    relation = ""
    for token in run.tokens:
        if token.kind in RELATIONS:
            yield _Side(tuple(tokens), relation)
            tokens, relation = [], token.kind
        else:
            tokens.append(token)
    yield _Side(tuple(tokens), relation)


def _trimmed(side: _Side) -> _Side | None:
    """The side without a bullet and without brackets around the whole equation."""
    tokens = side.tokens
    bullet = False
    if len(tokens) > 1 and tokens[0].first and tokens[0].kind == "operator" and tokens[1].gap:
        bullet = tokens[0].text == "-"
        if tokens[0].text not in "-*":
            return None
        tokens = tokens[1:]
    unmatched = _unmatched(tokens)
    start, end = 0, len(tokens)
    while start in unmatched and tokens[start].kind == "open":
        start += 1
    while end - 1 in unmatched and tokens[end - 1].kind == "close":
        end -= 1
    if start >= end or len(unmatched) != start + len(tokens) - end:
        return None
    return _Side(tokens[start:end], side.relation, bullet=bullet)


def _unmatched(tokens: Sequence[Token]) -> set[int]:
    """The places of brackets without a partner."""
    opened: list[int] = []
    unmatched: set[int] = set()
    for place, token in enumerate(tokens):
        if token.kind == "open":
            opened.append(place)
        elif token.kind == "close":
            if opened:
                opened.pop()
            else:
                unmatched.add(place)
    return unmatched | set(opened)


def _is_expression(side: _Side) -> bool:
    try:
        _ = side.divided
    except NoExpressionError:
        return False
    return True


def _step(chain: list[_Side]) -> Step | None:
    """The chain as a step; None where it has no operation or cannot be checked."""
    tokens = [token for side in chain for token in side.tokens]
    if not any(side.operations for side in chain) or not _same_units(tokens):
        return None
    has_percent = any(token.kind == "percent" for token in tokens)
    readings = [[side.divided for side in chain]]
    try:
        if has_percent:
            readings.append([side.values(_PERCENTS[1]) for side in chain])
    except NoExpressionError:  # too large where the percent sign does not divide
        return None
    verdicts = [_all_equal(chain, values) for values in readings]
    if None in verdicts or (not any(verdicts) and _adds_percent(tokens)):
        return None
    ends = [values if true else values[-1:] for true, values in zip(verdicts, readings, strict=True)]
    results = {value for values in ends for side in values for value in side if value is not None}
    return Step(tokens[0].start, tokens[-1].end, any(verdicts), tuple(sorted(results)))


def _adds_percent(tokens: Sequence[Token]) -> bool:
    """Whether percents are added or taken away, as in `200 + 10% = 220`: of what is not written."""
    return any(
        sign.text in {"+", "-"} and number.kind == "number" and percent.kind == "percent"
        for sign, number, percent in zip(tokens, tokens[1:], tokens[2:], strict=False)
    )


def _all_equal(chain: list[_Side], values: list[list[Fraction | None]]) -> bool | None:
    """Whether each side equals the one before; None where a `≈` names no precision."""
    links = [
        _equal(left, right, side) for left, right, side in zip(values, values[1:], chain[1:], strict=False)
    ]
    return None if None in links else all(links)


def _equal(left: list[Fraction | None], right: list[Fraction | None], side: _Side) -> bool | None:
    literal = side.literal
    if side.relation == "approx" and literal is None:
        return None
    pairs = [(a, b) for a in left for b in right if a is not None and b is not None]
    if any(a == b for a, b in pairs):
        return True
    if literal is None:
        return False
    places = _decimals(literal)
    if side.relation == "approx":
        return any(abs(a - b) <= _unit(places) / 2 for a, b in pairs)
    if places < 2:
        return False
    endless = [(a, b) for a, b in pairs if not _is_finite_decimal(a)]
    if side.cut and any(0 < abs(a) - abs(b) < _unit(places) for a, b in endless):
        return True
    return any(abs(a - b) <= _unit(places) / 2 for a, b in endless)


def _decimals(literal: str) -> int:
    """Decimals of a number; negative for the zeros that a whole number ends with."""
    if "." in literal:
        return len(literal.rpartition(".")[2])
    digits = "".join(character for character in literal if character.isdigit())
    return len(digits.rstrip("0")) - len(digits) if digits.strip("0") else 0


def _unit(decimals: int) -> Fraction:
    return Fraction(10) ** -decimals


def _is_finite_decimal(value: Fraction) -> bool:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _same_units(tokens: Sequence[Token]) -> bool:
    """Whether units cannot change the truth: at most one, and a letter only where all numbers have it."""
    units = [token.text.casefold() for token in tokens if token.kind in {"label", "unit"}]
    names = {unit.removesuffix("s") if len(unit) > 2 else unit for unit in units}
    if len(names) > 1:
        return False
    if not any(name.isalpha() and len(name) == 1 for name in names):
        return True
    numbers = sum(token.kind == "number" for token in tokens)
    return len(units) == numbers and not any(
        token.kind == "operator" and token.text in "*/" for token in tokens
    )
