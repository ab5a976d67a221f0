"""Sets of real numbers, as intervals, unions of them and inequalities write them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tunix_rt.answers.formulas import Formula

INFINITY = Formula("constant", name="∞")
MINUS_INFINITY = Formula("negative", (INFINITY,))
_TURNED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}


@dataclass(frozen=True)
class Interval:
    """The numbers between two ends, each of which belongs to it or not."""

    low: Formula
    high: Formula
    holds_low: bool
    holds_high: bool


@dataclass(frozen=True)
class Region:
    """Intervals, and the symbol that lies in them, if one is named."""

    intervals: tuple[Interval, ...]
    name: str = ""


def region_of(formula: Formula, *, pairs: bool) -> Region | None:
    """The region that a formula describes, or None.

    `(1, 2)` and `[1, 2]` may be points or lists: they are intervals with `pairs`.
    """
    parts = formula.parts
    match formula.kind:
        case "constant" if formula.name == "ℝ":
            return Region((Interval(MINUS_INFINITY, INFINITY, False, False),))
        case "list" if formula.name[0] in "([" and len(parts) == 2:
            return _interval(formula, pairs)
        case "list" if formula.name in {",", "and", "or"}:
            return _joined(formula)
        case "union":
            return _union([region_of(part, pairs=True) for part in parts])
        case "member" if parts[0].kind == "symbol":
            region = region_of(parts[1], pairs=True)
            return replace(region, name=parts[0].name) if region else None
        case "relation":
            return _inequality(formula)
    return None


def _interval(formula: Formula, pairs: bool) -> Region | None:
    low, high = formula.parts
    mixed = formula.name in {"(]", "[)"}
    if not (pairs or mixed or high == INFINITY or low == MINUS_INFINITY):
        return None
    return Region((Interval(low, high, formula.name[0] == "[", formula.name[1] == "]"),))


def _inequality(formula: Formula) -> Region | None:
    """`x > 3`, `1 < x ≤ 2` or `x ≠ 3`; None where no side is a symbol alone."""
    signs, parts = formula.name, formula.parts
    if len(parts) == 2 and signs in "<>≤≥≠":
        left, right = parts
        if left.kind != "symbol":
            left, right, signs = right, left, _TURNED.get(signs, signs)
        if left.kind != "symbol" or _mentions(right, left.name):
            return None
        if signs == "≠":
            below = Interval(MINUS_INFINITY, right, False, False)
            return Region((below, Interval(right, INFINITY, False, False)), left.name)
        low, high = (MINUS_INFINITY, right) if signs in "<≤" else (right, INFINITY)
        return Region((Interval(low, high, signs == "≥", signs == "≤"),), left.name)
    if len(parts) == 3 and parts[1].kind == "symbol" and set(signs) <= set("<≤"):
        return Region((Interval(parts[0], parts[2], signs[0] == "≤", signs[1] == "≤"),), parts[1].name)
    if len(parts) == 3 and parts[1].kind == "symbol" and set(signs) <= set(">≥"):
        return Region((Interval(parts[2], parts[0], signs[1] == "≥", signs[0] == "≥"),), parts[1].name)
    return None


def _joined(formula: Formula) -> Region | None:
    """Inequalities of one symbol: with `or` their union, else what a lower and an upper bound share."""
    regions = [region_of(part, pairs=False) for part in formula.parts]
    if formula.name == "or":
        return _union(regions)
    if len(regions) != 2 or None in regions:
        return None
    first, second = (region for region in regions if region)
    if first.name != second.name or len(first.intervals) != 1 or len(second.intervals) != 1:
        return None
    lower, upper = first.intervals[0], second.intervals[0]
    if lower.high != INFINITY:
        lower, upper = upper, lower
    if lower.high != INFINITY or upper.low != MINUS_INFINITY:
        return None
    return Region((Interval(lower.low, upper.high, lower.holds_low, upper.holds_high),), first.name)


def _union(regions: list[Region | None]) -> Region | None:
    found = [region for region in regions if region]
    if len(found) != len(regions) or len({region.name for region in found}) != 1:
        return None
    return Region(tuple(each for region in found for each in region.intervals), found[0].name)


def _mentions(formula: Formula, name: str) -> bool:
    return (formula.kind == "symbol" and formula.name == name) or any(
        _mentions(part, name) for part in formula.parts
    )
