"""Whether two formulas have the same value wherever both have one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from hashlib import sha256

from mpmath import mp

from tunix_rt.answers.formula_values import UndefinedValueError, Value, value_at
from tunix_rt.answers.formulas import Formula

DIGITS = 100
MIN_POINTS = 3  # so many points with a real value decide
_AGREED = 80  # leading digits of DIGITS in which equal values agree, unless they cancel

# What symbols are drawn from: reals up to each scale, both signs where it is negative, and whole numbers.
_SCALES = (1, 1, 3, 3, 12, 60, -2, -2, -6, -20)
_WHOLE_POINTS = 8
_POSITIVE_POINTS = 6

Point = Mapping[str, Fraction]


def same_value(left: Formula, right: Formula, tolerance: float) -> bool:
    """Whether two expressions are equal at fixed points, computed with DIGITS digits.

    Points where one has no real value are passed over; where hardly any is left, or one has an `i`, the
    principal complex values are compared. A difference counts as rounding if it shrinks with more digits.
    Constants of which one is written as a decimal number are equal within the relative tolerance.
    """
    if left == right:
        return True
    names = sorted(symbols_of(left) | symbols_of(right))
    if not names and (_is_decimal(left) or _is_decimal(right)) and _close(left, right, tolerance):
        return True
    if not (has_i(left) or has_i(right)):
        found = _agree_at(left, right, list(_points(names)), complex_values=False)
        if found is not None:
            return found
    points = list(_points(names))[:_POSITIVE_POINTS]
    return _agree_at(left, right, points, complex_values=True) is True


def proportional(left: Formula, right: Formula, *, same_sign: bool) -> bool:
    """Whether one is the other one times a constant that is not 0, and positive with `same_sign`."""
    names = sorted(symbols_of(left) | symbols_of(right))
    pairs = [pair for point in _points(names) if (pair := _pair(left, right, point, DIGITS)) is not None]
    first = next((pair for pair in pairs if pair[0] != 0 and pair[1] != 0), None)
    if first is None or len(pairs) < (MIN_POINTS if names else 1):
        return False
    with mp.workdps(DIGITS):
        if same_sign and first[0] / first[1] < 0:
            return False
        room = mp.mpf(10) ** -_AGREED
        scale = abs(first[0] * first[1])
        return all(abs(a * first[1] - b * first[0]) <= room * max(abs(a * first[1]), scale) for a, b in pairs)


def symbols_of(formula: Formula) -> set[str]:
    """The names of the symbols of a formula."""
    own = {formula.name} if formula.kind == "symbol" else set()
    return own.union(*(symbols_of(part) for part in formula.parts))


def has_i(formula: Formula) -> bool:
    """Whether the imaginary unit occurs."""
    return (formula.kind == "constant" and formula.name == "i") or any(map(has_i, formula.parts))


def _agree_at(left: Formula, right: Formula, points: Sequence[Point], *, complex_values: bool) -> bool | None:
    """Whether the values agree at all points where both have one; None if those are too few."""
    compared = 0
    for point in points:
        pair = _pair(left, right, point, DIGITS, complex_values)
        if pair is None:
            continue
        compared += 1
        if not _equal(pair, left, right, point, complex_values):
            return False
    return True if compared >= min(MIN_POINTS, len(points)) else None


def _equal(
    pair: tuple[Value, Value], left: Formula, right: Formula, point: Point, complex_values: bool
) -> bool:
    if _leading_agree(*pair):
        return True
    finer = _pair(left, right, point, 2 * DIGITS, complex_values)
    if finer is None:
        return False
    with mp.workdps(2 * DIGITS):
        return bool(abs(finer[0] - finer[1]) <= abs(pair[0] - pair[1]) * mp.mpf(10) ** (-DIGITS // 2))


def _leading_agree(left: Value, right: Value) -> bool:
    with mp.workdps(DIGITS):
        largest = max(abs(left), abs(right))
        return bool(abs(left - right) <= largest * mp.mpf(10) ** -_AGREED)


def _pair(
    left: Formula, right: Formula, point: Point, digits: int, complex_values: bool = False
) -> tuple[Value, Value] | None:
    try:
        return (
            value_at(left, point, digits=digits, complex_values=complex_values),
            value_at(right, point, digits=digits, complex_values=complex_values),
        )
    except UndefinedValueError:
        return None


def _close(left: Formula, right: Formula, tolerance: float) -> bool:
    pair = _pair(left, right, {}, DIGITS)
    return pair is not None and bool(abs(pair[0] - pair[1]) <= tolerance * abs(pair[1]))


def _is_decimal(formula: Formula) -> bool:
    if formula.kind == "negative":
        return _is_decimal(formula.parts[0])
    return formula.kind == "number" and formula.name == "decimal"


def _points(names: Sequence[str]) -> Iterator[Point]:
    """The points, of which the first have positive coordinates only; one where there are no symbols."""
    if not names:
        yield {}
        return
    for index, scale in enumerate(_SCALES):
        yield {name: _coordinate(name, index, scale) for name in names}
    for index in range(_WHOLE_POINTS):
        yield {name: Fraction(1 + _drawn(name, f"whole {index}") % 10) for name in names}


def _coordinate(name: str, index: int, scale: int) -> Fraction:
    drawn = _drawn(name, str(index))
    size = Fraction(1 + drawn % 2**61, 2**61) * abs(scale)
    return -size if scale < 0 and drawn >> 200 & 1 else size


def _drawn(name: str, purpose: str) -> int:
    return int.from_bytes(sha256(f"{name} {purpose}".encode()).digest())
