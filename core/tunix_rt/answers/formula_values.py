"""The value of a formula at a point, with as many digits as asked for.

Imported only where a deadline and a limit of memory hold: a short text can ask for much work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from mpmath import mp

from tunix_rt.answers.formulas import Formula

LARGEST = 1_000_000  # bits before the point; what is larger is not computed
MAX_FACTORIAL = 10_000

Value = Any  # an mpf, or an mpc where complex values are asked for

_FUNCTIONS: Mapping[str, Callable[[Value], Value]] = {
    "sin": mp.sin,
    "cos": mp.cos,
    "tan": mp.tan,
    "cot": mp.cot,
    "sec": mp.sec,
    "csc": mp.csc,
    "sinh": mp.sinh,
    "cosh": mp.cosh,
    "tanh": mp.tanh,
    "arctan": mp.atan,
    "exp": mp.exp,
    "abs": abs,
    "degrees": lambda x: x * mp.pi / 180,
}


class UndefinedValueError(ArithmeticError):
    """The formula has no value there, or one too large to be computed."""


def value_at(
    formula: Formula, point: Mapping[str, Fraction], *, digits: int, complex_values: bool = False
) -> Value:
    """The value with its symbols as `point` says, computed with `digits` digits.

    Without `complex_values` every part must be real: the root of a negative number has no value, and an odd
    root of one is negative. With them roots, powers and logarithms are the principal ones. Raises
    UndefinedValueError, also for what is no number, such as a list or an equation.
    """
    with mp.workdps(digits):
        try:
            return +_At(point, complex_values).value(formula)
        except (ArithmeticError, ValueError) as error:
            raise UndefinedValueError from error


def exact_value(formula: Formula) -> Fraction | None:
    """The value of a formula of numbers, signs, products and quotients, or None for another one."""
    if formula.kind == "number":
        return formula.value
    if formula.kind not in {"negative", "reciprocal", "multiply"}:
        return None
    result = Fraction(1)
    for part in formula.parts:
        value = exact_value(part)
        if value is None:
            return None
        result *= value
    if formula.kind == "negative":
        return -result
    if formula.kind == "reciprocal":
        return 1 / result if result else None
    return result


class _At:
    """Evaluates the nodes of a formula at one point, with the precision that is set."""

    def __init__(self, point: Mapping[str, Fraction], complex_values: bool) -> None:
        self.point = point
        self.complex_values = complex_values

    def value(self, formula: Formula) -> Value:
        parts = formula.parts
        match formula.kind:
            case "number":
                return _number(formula.value)
            case "symbol":
                return _number(self.point[formula.name])
            case "constant":
                return self.constant(formula.name)
            case "negative":
                return -self.value(parts[0])
            case "reciprocal":
                return 1 / self.value(parts[0])
            case "add":
                return mp.fsum(self.value(part) for part in parts)
            case "multiply":
                return mp.fprod(self.value(part) for part in parts)
            case "power":
                return self.power(self.value(parts[0]), parts[1])
            case "call" if len(parts) == 2:
                return self.call_of_two(formula.name, *parts)
            case "call":
                return self.call(formula.name, self.value(parts[0]))
        raise UndefinedValueError

    def constant(self, name: str) -> Value:
        if name == "π":
            return +mp.pi
        if name == "e":
            return +mp.e
        if name == "i" and self.complex_values:
            return mp.mpc(0, 1)
        raise UndefinedValueError

    def power(self, base: Value, exponent: Formula) -> Value:
        exact = exact_value(exponent)
        raised = self.value(exponent)
        if base == 0:
            if isinstance(raised, mp.mpc) or raised <= 0:
                raise UndefinedValueError
            return mp.mpf(0)
        if mp.mag(raised) > 64 or abs(raised * mp.mag(base)) > LARGEST:
            raise UndefinedValueError
        if self.complex_values or base > 0 or mp.isint(raised):
            return mp.power(base, raised)
        if exact is None or exact.denominator % 2 == 0:
            raise UndefinedValueError
        size = mp.power(-base, raised)
        return -size if exact.numerator % 2 else size

    def call(self, name: str, argument: Value) -> Value:
        if mp.mag(argument) > (20 if name in {"exp", "sinh", "cosh", "tanh"} else LARGEST // 100):
            raise UndefinedValueError
        if name == "ln":
            return self.logarithm(argument)
        if name in {"arcsin", "arccos"}:
            if not self.complex_values and abs(argument) > 1:
                raise UndefinedValueError
            return (mp.asin if name == "arcsin" else mp.acos)(argument)
        if name == "factorial":
            if not mp.isint(argument) or not 0 <= argument <= MAX_FACTORIAL:
                raise UndefinedValueError
            return mp.factorial(argument)
        return _FUNCTIONS[name](argument)

    def call_of_two(self, name: str, first: Formula, second: Formula) -> Value:
        argument = self.value(second)
        if name == "root":
            return self.power(argument, Formula("reciprocal", (first,)))
        if name == "log":
            return self.logarithm(argument) / self.logarithm(self.value(first))
        top = self.value(first)
        if not all(mp.isint(each) and 0 <= each <= MAX_FACTORIAL for each in (top, argument)):
            raise UndefinedValueError
        return mp.binomial(top, argument)

    def logarithm(self, argument: Value) -> Value:
        if argument == 0 or (not self.complex_values and argument < 0):
            raise UndefinedValueError
        return mp.log(argument)


def _number(value: Fraction) -> Value:
    return mp.mpf(value.numerator) / value.denominator
