"""Whether two algebraic expressions are equal as rational functions."""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256

PRIME = 2**61 - 1
POINTS = 2
MAX_LENGTH = 300
MAX_EXPONENT = 1000
MAX_DEPTH = 40

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<letter>[A-Za-zπ])|(?P<sign>\*\*|[-+*/^()\[\]{}×·÷]))"
)
_LATEX = ((r"\cdot", "*"), (r"\times", "*"), (r"\div", "/"), (r"\left", ""), (r"\right", ""), (r"\pi", "π"))
_SUPERSCRIPT = re.compile(r"[⁰¹²³⁴-⁹]+")
_FUNCTION = re.compile(r"[A-Za-z]{3}|[lL][ng]|[fg]\s*\(|[¼½¾⅐-⅞]")  # read as products they would be wrong
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class _NotAnExpressionError(ValueError):
    """The text is no expression that can be evaluated."""


def same_expression(left: str, right: str) -> bool:
    """Whether two texts are expressions that are equal where both are defined.

    Numbers, single-letter variables, `+ - * / ^`, brackets, `\\\\frac` and products without a sign; powers
    are whole numbers. Both are evaluated exactly modulo a prime at fixed points (Schwartz 1980, Zippel
    1979): different ones of degree d agree there with a probability of at most (d / PRIME)^POINTS,
    below 1e-20. Anything else (roots, functions, inequalities) gives False.
    """
    values = values_of(left)
    return values is not None and values == values_of(right)


def values_of(text: str) -> tuple[int, ...] | None:
    """The values of an expression at POINTS fixed points modulo PRIME, or None if it is not one."""
    plain = _plain(text)
    if not plain or len(plain) > MAX_LENGTH:
        return None
    try:
        return tuple(_Reader(plain, point).value() for point in range(POINTS))
    except _NotAnExpressionError:
        return None


def _plain(text: str) -> str:
    if len(text) > 4 * MAX_LENGTH:
        return ""
    text = _SUPERSCRIPT.sub(lambda match: f"^{unicodedata.normalize('NFKC', match.group())}", text)
    text = re.sub(r"[\u2212\u2013]", "-", text.replace("{,}", ","))
    for _ in range(5):
        text, changes = _FRACTION.subn(r"((\1)/(\2))", text)
        if not changes:
            break
    for latex, sign in _LATEX:
        text = text.replace(latex, sign)
    text = re.sub(r"^\s*(?:[A-Za-z]|[A-Za-z]\([A-Za-z]\))\s*=(?!=)", "", text).strip().rstrip(".")
    text = re.sub(r"\bpi\b", "π", text)
    return "" if _FUNCTION.search(text) else text


class _Reader:
    """Recursive descent over the tokens of an expression, evaluating it at one point."""

    def __init__(self, text: str, point: int) -> None:
        self.point = point
        self.tokens: list[tuple[str, str]] = []
        self.next = 0
        self.depth = 0
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise _NotAnExpressionError
            self.tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
            position = match.end()

    def value(self) -> int:
        result = self.sum()
        if self.next != len(self.tokens):
            raise _NotAnExpressionError
        return result

    def sum(self) -> int:
        result = self.product()
        while sign := self.accept("+", "-"):
            term = self.product()
            result = (result + term if sign == "+" else result - term) % PRIME
        return result

    def product(self) -> int:
        result = self.signed()
        while True:
            if sign := self.accept("*", "×", "·", "/", "÷"):
                factor = self.signed()
                result = result * (factor if sign in "*×·" else _inverse(factor)) % PRIME
            elif self.peek()[0] == "letter" or self.peek()[1] in {"(", "[", "{"}:
                result = result * self.power() % PRIME
            else:
                return result

    def signed(self) -> int:
        negative = False
        while sign := self.accept("+", "-"):
            negative ^= sign == "-"
        result = self.power()
        return -result % PRIME if negative else result

    def power(self) -> int:
        base = self.atom()
        if not self.accept("^", "**"):
            return base
        bracket = self.accept(*_CLOSING)
        negative = self.accept("-") == "-"
        kind, text = self.peek()
        if kind != "number" or "." in text or len(text) > 4 or int(text) > MAX_EXPONENT:
            raise _NotAnExpressionError
        self.next += 1
        if (bracket and not self.accept(_CLOSING[bracket])) or self.peek()[1] in {"^", "**"}:
            raise _NotAnExpressionError
        return pow(_inverse(base) if negative else base, int(text), PRIME)

    def atom(self) -> int:
        kind, text = self.peek()
        self.next += 1
        if kind == "number":
            whole, _, decimals = text.partition(".")
            return int(whole + decimals) * _inverse(10 ** len(decimals)) % PRIME
        if kind == "letter":
            return int.from_bytes(sha256(f"{text}{self.point}".encode()).digest()) % PRIME
        self.depth += 1
        if text not in _CLOSING or self.depth > MAX_DEPTH:
            raise _NotAnExpressionError
        result = self.sum()
        if not self.accept(_CLOSING[text]):
            raise _NotAnExpressionError
        self.depth -= 1
        return result

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.next] if self.next < len(self.tokens) else ("end", "")

    def accept(self, *signs: str) -> str:
        text = self.peek()[1]
        if self.peek()[0] == "sign" and text in signs:
            self.next += 1
            return text
        return ""


def _inverse(value: int) -> int:
    if value % PRIME == 0:
        raise _NotAnExpressionError
    return pow(value, -1, PRIME)
