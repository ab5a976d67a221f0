"""The parts of written arithmetic, and the exact value of an expression made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

MAX_DIGITS = 300  # a longer number in a text is noise
MAX_BITS = 1024  # of a numerator or denominator, so that every operation takes constant time

_SEPARATORS = r"[,_'\u2019\u2009\u202f\u00a0]"
_TOKEN = re.compile(
    rf"""
      (?P<date>[0-9]{{1,2}}/[0-9]{{1,2}}/[0-9]{{4}}(?![0-9.,])|[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?![0-9.,]))
    | (?P<number>[0-9]+(?:(?:[.:]|{_SEPARATORS})[0-9]+)*(?:[eE][-+]?[0-9]+)?|\.[0-9]+)
    | (?P<space>\s+)
    | (?P<ellipsis>\.{{2,}}|…)
    | (?P<other>[<>!]=|=>|={{3,}}|[≠√∛∜∑∏∫±∓∂~])
    | (?P<equals>==?|＝)
    | (?P<approx>[≈≃≅]|\\approx(?![A-Za-z]))
    | (?P<power>\*\*|\^)
    | (?P<operator>[-+*/×÷·⋅∙∗\u2212\u2013\u2010\u2011∕⁄]|\\(?:times|cdot|div)(?![A-Za-z]))
    | (?P<ignored>\\[()\[\],;!]|\\(?:left|right|displaystyle|boxed)(?![A-Za-z]))
    | (?P<open>[(\[{{])
    | (?P<close>[)\]}}])
    | (?P<percent>\\?%)
    | (?P<label>\\?[$€£¥°])
    | (?P<square>[²³])
    | (?P<word>\\?[^\W\d]+)
    | (?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+")
_GROUPED = re.compile(rf"[0-9]{{1,3}}({_SEPARATORS})[0-9]{{3}}(?:\1[0-9]{{3}})*(?:\.[0-9]+)?")
_EXPONENT = re.compile(r"(.*)[eE]([-+]?[0-9]{1,2})")
_OPERATORS = {
    **dict.fromkeys("+", "+"),
    **dict.fromkeys("-\u2212\u2013\u2010\u2011", "-"),
    **dict.fromkeys(("*", "×", "·", "⋅", "∙", "∗", "\\times", "\\cdot"), "*"),
    **dict.fromkeys(("/", "÷", "∕", "⁄", "\\div"), "/"),
}
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "negate": 3, "^": 4}


class NoExpressionError(ValueError):
    """Tokens that are no expression, or one whose value is too large to compute."""


class Token(NamedTuple):
    """A part of a text; `gap` says that white space stands before it, `first` that it begins a line."""

    kind: str
    text: str
    start: int
    end: int
    gap: bool
    first: bool


def tokenize(text: str) -> Iterator[Token]:
    """The tokens of a text without its white space; a line that begins with `=` continues the last one."""
    gap, first = False, True
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "mark"
        if kind == "space":
            gap = True
            first = first or ("\n" in match.group() and not text.startswith("=", match.end()))
        elif kind != "ignored":
            written = match.group()
            yield Token(
                kind, _OPERATORS.get(written, written), match.start(), match.end(), gap or first, first
            )
            gap, first = False, False


def number_value(text: str) -> Fraction | None:
    """The value of a number with or without thousands separators; None for `1,23`, `3:30` or noise."""
    if len(text) > MAX_DIGITS:
        return None
    if text.isdecimal():
        return Fraction(int(text))
    scale = Fraction(1)
    exponent = _EXPONENT.fullmatch(text)
    if exponent:
        text, scale = exponent.group(1), Fraction(10) ** int(exponent.group(2))
    if _PLAIN.fullmatch(text):
        return Fraction(text) * scale
    if _GROUPED.fullmatch(text):
        return Fraction(re.sub(_SEPARATORS, "", text)) * scale
    return None


def evaluate(tokens: Sequence[Token], *, percent: Fraction) -> Fraction:
    """The value of an expression with the usual precedence; labels such as `$` do not count.

    `percent` is what a percent sign multiplies by. Raises NoExpressionError, and ZeroDivisionError
    where the value is undefined.
    """
    stack = _Stack()
    tokens = [token for token in tokens if token.kind not in {"label", "unit"}]
    for place, token in enumerate(tokens):
        following = tokens[place + 1].kind if place + 1 < len(tokens) else ""
        if token.kind == "number":
            value = number_value(token.text)
            if value is None:
                raise NoExpressionError
            stack.push_value(value)
        elif token.kind == "open":
            if not stack.wants_value and token.gap:
                raise NoExpressionError
            stack.open()
        elif token.kind == "close":
            stack.close()
        elif token.kind == "percent":
            stack.change_value("*", percent)
        elif token.kind == "square":
            stack.change_value("^", Fraction(2 if token.text == "²" else 3))
        elif token.kind == "power":
            stack.push_operator("^")
        elif token.kind == "operator" and stack.wants_value:
            if token.text not in "+-" or following not in {"number", "open"}:
                raise NoExpressionError
            stack.push_sign(token.text)
        elif token.kind == "operator":
            stack.push_operator(token.text)
        else:
            raise NoExpressionError
    return stack.result()


class _Stack:
    """Operators and values of an expression that is read from left to right (Dijkstra 1961)."""

    def __init__(self) -> None:
        self.values: list[Fraction] = []
        self.operators: list[str] = []
        self.wants_value = True

    def push_value(self, value: Fraction) -> None:
        if not self.wants_value:
            raise NoExpressionError
        self.values.append(value)
        self.wants_value = False

    def change_value(self, operator: str, right: Fraction) -> None:
        if self.wants_value:
            raise NoExpressionError
        self.values[-1] = _apply(self.values[-1], operator, right)

    def push_sign(self, sign: str) -> None:
        if sign == "-":
            self.operators.append("negate")

    def push_operator(self, operator: str) -> None:
        if self.wants_value:
            raise NoExpressionError
        binds = _PRECEDENCE[operator] + (operator == "^")  # a power is read from right to left
        while self.operators and self.operators[-1] != "(" and _PRECEDENCE[self.operators[-1]] >= binds:
            self._reduce()
        self.operators.append(operator)
        self.wants_value = True

    def open(self) -> None:
        if not self.wants_value:
            self.push_operator("*")
        self.operators.append("(")

    def close(self) -> None:
        if self.wants_value:
            raise NoExpressionError
        while self.operators and self.operators[-1] != "(":
            self._reduce()
        if not self.operators:
            raise NoExpressionError
        self.operators.pop()

    def result(self) -> Fraction:
        if self.wants_value:
            raise NoExpressionError
        while self.operators:
            if self.operators[-1] == "(":
                raise NoExpressionError
            self._reduce()
        (value,) = self.values
        return value

    def _reduce(self) -> None:
        operator = self.operators.pop()
        right = self.values.pop()
        if operator == "negate":
            self.values.append(-right)
        else:
            self.values.append(_apply(self.values.pop(), operator, right))


def _apply(left: Fraction, operator: str, right: Fraction) -> Fraction:
    if operator == "+":
        value = left + right
    elif operator == "-":
        value = left - right
    elif operator == "*":
        value = left * right
    elif operator == "/":
        value = left / right
    else:
        value = _power(left, right)
    if _bits(value) > MAX_BITS:
        raise NoExpressionError
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or abs(exponent.numerator) * _bits(base) > MAX_BITS:
        raise NoExpressionError
    return Fraction(base**exponent.numerator)


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())
