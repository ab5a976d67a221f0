"""Whether two texts are the same formula: expressions, solutions, equations, regions, lists or matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from tunix_rt.answers.formulas import Formula, formula_of, number
from tunix_rt.answers.regions import Interval, Region, region_of
from tunix_rt.answers.same_value import proportional, same_value, symbols_of

T = TypeVar("T")

_BARE = frozenset({",", "or", "and", "{}"})
_DIRECTED = {"<": "<", "≤": "≤", ">": "<", "≥": "≤", "=": "=", "≠": "≠"}


@dataclass(frozen=True)
class Solution:
    """One of the values that a formula gives, and the symbol it is given for."""

    value: Formula
    name: str = ""


def same_formula(predicted: str, expected: str, tolerance: float) -> bool:
    """Whether both texts are formulas and mean the same.

    Expressions: the same value at fixed points (`same_value`). `x = 2`, a bare value and a label `f(x) =` are
    one thing; so are `±2`, `x = 2, x = -2` and `{2, -2}`. Inequalities that are solved for a symbol and
    intervals are the same region. Other equations and inequalities are the same if one is a multiple of
    the other, but none is the same as its solution. Lists and matrices are compared part by part.
    """
    given, wanted = formula_of(predicted), formula_of(expected)
    return given is not None and wanted is not None and _same(given, wanted, tolerance)


def _same(given: Formula, wanted: Formula, tolerance: float) -> bool:
    if region_of(given, pairs=False) or region_of(wanted, pairs=False):
        regions = region_of(given, pairs=True), region_of(wanted, pairs=True)
        names = {region.name for region in regions if region} - {""}
        if regions[0] and regions[1] and len(names) < 2:
            return _same_regions(regions[0], regions[1], tolerance)
    solutions = _solutions(given, tolerance), _solutions(wanted, tolerance)
    return _covers(*solutions, lambda one, other: _same_solution(one, other, tolerance))


def _same_solution(given: Solution, wanted: Solution, tolerance: float) -> bool:
    if given.name and wanted.name and given.name != wanted.name:
        return _same_equations(given, wanted)
    left, right = given.value, wanted.value
    kinds = {left.kind, right.kind}
    if "matrix" in kinds or _is_table(left) or _is_table(right):
        return _same_rows(_rows(left), _rows(right), tolerance)
    if left.kind == right.kind == "list":
        same_length = left.name == right.name and len(left.parts) == len(right.parts)
        return same_length and all(
            _same(one, other, tolerance) for one, other in zip(left.parts, right.parts, strict=True)
        )
    if "relation" in kinds or (given.name and wanted.name and symbols_of(right)):
        return _same_equations(given, wanted)
    return not kinds & {"list", "union", "member"} and same_value(left, right, tolerance)


def _same_equations(given: Solution, wanted: Solution) -> bool:
    """Whether two relations are multiples of each other; where a number is wanted, a relation is not it."""
    left, right = _equation(given), _equation(wanted)
    if left is None or right is None or left.name != right.name:
        return False
    if wanted.name and not symbols_of(wanted.value):
        return False
    return proportional(left.parts[0], right.parts[0], same_sign=left.name in {"<", "≤"})


def _equation(solution: Solution) -> Formula | None:
    """A relation as one expression and how it compares with 0: `=`, `≠`, `<` or `≤`."""
    if solution.name:
        symbol = Formula("symbol", name=solution.name)
        return Formula("relation", (_minus(symbol, solution.value),), "=")
    relation = solution.value
    if relation.kind != "relation" or relation.name not in _DIRECTED:
        return None
    left, right = relation.parts
    if relation.name in {">", "≥"}:
        left, right = right, left
    return Formula("relation", (_minus(left, right),), _DIRECTED[relation.name])


def _minus(left: Formula, right: Formula) -> Formula:
    return Formula("add", (left, Formula("negative", (right,))))


def _solutions(formula: Formula, tolerance: float) -> list[Solution]:
    """The values that a formula gives, in no order: parts of a set or of an open list, both signs of ±."""
    if formula.kind == "list" and formula.name in _BARE:
        return [each for part in formula.parts for each in _solutions(part, tolerance)]
    if _has_signs(formula):
        upper, lower = _with_sign(formula, upper=True), _with_sign(formula, upper=False)
        return [*_solutions(upper, tolerance), *_solutions(lower, tolerance)]
    if formula.kind == "member" and formula.parts[0].kind == "symbol":
        return _named(formula.parts[0].name, formula.parts[1], tolerance)
    if formula.kind != "relation" or set(formula.name) != {"="}:
        return [Solution(formula)]
    parts = formula.parts
    first, last = parts[0], parts[-1]
    if first.kind != "symbol" and last.kind == "symbol":
        first, last = last, first
    if first.kind == "symbol" and first.name not in symbols_of(last):
        return _named(first.name, last, tolerance)
    if first.kind == last.kind == "list" and all(part.kind == "symbol" for part in first.parts):
        return [Solution(last)]  # (x, y) = (1, 2)
    if all(same_value(part, parts[-1], tolerance) for part in parts[:-1]):
        return [Solution(parts[-1])]
    return [Solution(formula)]


def _named(name: str, value: Formula, tolerance: float) -> list[Solution]:
    if value.kind == "list" and value.name == "{}":
        return [replace(each, name=name) for each in _solutions(value, tolerance)]
    return [Solution(value, name)]


def _has_signs(formula: Formula) -> bool:
    return formula.kind == "plusminus" or any(map(_has_signs, formula.parts))


def _with_sign(formula: Formula, *, upper: bool) -> Formula:
    """The formula with every ± as its upper or its lower sign."""
    parts = tuple(_with_sign(part, upper=upper) for part in formula.parts)
    if formula.kind != "plusminus":
        return replace(formula, parts=parts)
    left, right = parts
    plus = (formula.name == "+") is upper
    term = right if plus else Formula("negative", (right,))
    return term if left == number(0) else Formula("add", (left, term))


def _same_regions(given: Region, wanted: Region, tolerance: float) -> bool:
    def same(one: Interval, other: Interval) -> bool:
        return (one.holds_low, one.holds_high) == (other.holds_low, other.holds_high) and all(
            same_value(end, other_end, tolerance)
            for end, other_end in ((one.low, other.low), (one.high, other.high))
        )

    return _covers(list(given.intervals), list(wanted.intervals), same)


def _is_table(formula: Formula) -> bool:
    """Whether a list is one of lists, as matrices are written in plain text."""
    return (
        formula.kind == "list" and formula.name == "[]" and all(part.kind == "list" for part in formula.parts)
    )


def _rows(formula: Formula) -> list[tuple[Formula, ...]]:
    """The rows of a matrix; a list of numbers is a column."""
    if formula.kind == "matrix" or _is_table(formula):
        return [part.parts for part in formula.parts]
    return [(part,) for part in formula.parts] if formula.kind == "list" else []


def _same_rows(given: list[tuple[Formula, ...]], wanted: list[tuple[Formula, ...]], tolerance: float) -> bool:
    if not given or [len(row) for row in given] != [len(row) for row in wanted]:
        return False
    pairs = [pair for rows in zip(given, wanted, strict=True) for pair in zip(*rows, strict=True)]
    return all(same_value(one, other, tolerance) for one, other in pairs)


def _covers(items: list[T], others: list[T], same: Callable[[T, T], bool]) -> bool:
    """Whether each item is the same as one of the others, and each of the others as an item."""
    return all(any(same(item, other) for other in others) for item in items) and all(
        any(same(item, other) for item in items) for other in others
    )
