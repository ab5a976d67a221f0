"""Integer expressions, evaluated step by step and exactly."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_TOKEN = re.compile(r"\s*(?:(\d+)|([-+*/()]))")


class ExpressionError(ValueError):
    """An expression that has no exact integer value, or is none."""


@dataclass(frozen=True)
class Solution:
    """The value of an expression, and the steps to it such as `17 + 25 = 42`, in order.

    `numbers` are the literals in reading order, `results` the value of each step.
    """

    value: int
    steps: tuple[str, ...]
    numbers: tuple[int, ...]
    results: tuple[int, ...]


def solve(expression: str) -> Solution:
    """Evaluates `+ - * /` and parentheses with the usual precedence, from left to right.

    Raises ExpressionError for a division that is not even or by zero, for a negated parenthesis and
    for anything that is not such an expression.
    """
    solver = _Solver(_tokens(expression), expression)
    value = solver.sum()
    solver.expect_end()
    return Solution(
        value=value,
        steps=tuple(solver.steps),
        numbers=tuple(solver.numbers),
        results=tuple(solver.results),
    )


def apply(left: int, operator: str, right: int) -> int:
    """The exact integer result of one operation."""
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if operator != "/" or right == 0 or left % right:
        raise ExpressionError(f"{left} {operator} {right} has no exact integer value.")
    return left // right


class _Solver:
    """A recursive descent over tokens that notes each operation it makes."""

    def __init__(self, tokens: list[str], expression: str) -> None:
        self.tokens = tokens
        self.expression = expression
        self.position = 0
        self.steps: list[str] = []
        self.numbers: list[int] = []
        self.results: list[int] = []

    def sum(self) -> int:
        return self._chain(self.product, "+-")

    def product(self) -> int:
        return self._chain(self.factor, "*/")

    def factor(self) -> int:
        token = self._take()
        if token == "(":
            value = self.sum()
            if self._take() != ")":
                raise self._error()
            return value
        sign = 1
        if token == "-":
            sign, token = -1, self._take()
        if not token.isdigit():
            raise self._error()
        self.numbers.append(sign * int(token))
        return self.numbers[-1]

    def expect_end(self) -> None:
        if self.position != len(self.tokens):
            raise self._error()

    def _chain(self, operand: Callable[[], int], operators: str) -> int:
        value = operand()
        while self.position < len(self.tokens) and self.tokens[self.position] in operators:
            operator = self._take()
            right = operand()
            result = apply(value, operator, right)
            self.steps.append(f"{value} {operator} {right} = {result}")
            self.results.append(result)
            value = result
        return value

    def _take(self) -> str:
        if self.position == len(self.tokens):
            raise self._error()
        self.position += 1
        return self.tokens[self.position - 1]

    def _error(self) -> ExpressionError:
        return ExpressionError(f"{self.expression!r} is not an expression of integers that can be solved.")


def _tokens(expression: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    text = expression.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExpressionError(f"{expression!r} has {text[position]!r}, which is no number or operator.")
        tokens.append(match.group(1) or match.group(2))
        position = match.end()
    return tokens
