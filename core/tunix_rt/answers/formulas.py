"""Formulas as trees: expressions with roots and functions, equations, inequalities, sets, matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from tunix_rt.answers.formula_tokens import FormulaError, Token, tokens_of

MAX_DEPTH = 40
MAX_SIGNS = 8  # of ± and ∓

_END = Token("end", "")
_RELATIONS = frozenset("=<>≤≥≠≈")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}
_SAME = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "lg": "log", "cbrt": "root"}


@dataclass(frozen=True)
class Formula:
    """A node of a formula.

    "number" (`value`; `name` is "decimal" for one with a point), "symbol" and "constant" (`name`), "add",
    "multiply", "negative", "reciprocal", "power", "plusminus" (`name` is the upper sign), "call" (`name`
    is the function; "root" and "log" have degree and base as their first part), "relation" (`name` holds the
    signs), "union", "member", "matrix" (of lists), and "list": `name` is its brackets or, without any, what
    separates its parts, ",", "or" or "and".
    """

    kind: str
    parts: tuple[Formula, ...] = ()
    name: str = ""
    value: Fraction = Fraction(0)


def number(value: Fraction | int) -> Formula:
    """An exact number."""
    return Formula("number", value=Fraction(value))


@lru_cache(maxsize=1024)
def formula_of(text: str) -> Formula | None:
    """The formula that a text is, or None."""
    try:
        return _Reader(tokens_of(text)).answer()
    except FormulaError:
        return None


class _Reader:
    """Recursive descent over the tokens of a formula."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.next = 0
        self.depth = 0
        self.bars = 0
        self.signs = 0

    def answer(self) -> Formula:
        """All of the text: one part, or several with one kind of separator."""
        parts, separators = [self.relation()], set()
        while separator := self.accept(",", ";", "or", "and"):
            if separator in {",", ";"} and (joined := self.accept("or", "and")):
                separators.add(joined)
            else:
                separators.add(separator.replace(";", ","))
            parts.append(self.relation())
        if self.next != len(self.tokens) or len(separators - {","}) > 1:
            raise FormulaError
        name = max(separators, key=len, default="")
        return Formula("list", tuple(parts), name) if separators else parts[0]

    def relation(self) -> Formula:
        parts, signs = [self.union()], []
        while self.peek().kind == "sign" and self.peek().text in _RELATIONS:
            signs.append(self.take().text.replace("≈", "="))
            parts.append(self.union())
        if not signs and self.accept("∈"):
            return Formula("member", (parts[0], self.union()))
        return Formula("relation", tuple(parts), "".join(signs)) if signs else parts[0]

    def union(self) -> Formula:
        parts = [self.sum()]
        while self.accept("∪"):
            parts.append(self.sum())
        return Formula("union", tuple(parts)) if len(parts) > 1 else parts[0]

    def sum(self) -> Formula:
        terms = [self.product()]
        while sign := self.accept("+", "-", "±", "∓"):
            term = self.product()
            if sign in "±∓":
                self.count_sign()
                terms = [Formula("plusminus", (_many("add", terms), term), "+" if sign == "±" else "-")]
            else:
                terms.append(term if sign == "+" else Formula("negative", (term,)))
        return _many("add", terms)

    def product(self) -> Formula:
        factors = [self.signed()]
        while True:
            if sign := self.accept("*", "/"):
                factor = self.signed()
                factors.append(factor if sign == "*" else Formula("reciprocal", (factor,)))
            elif self.peek().kind != "number" and self.starts_atom():
                factors.append(self.power())
            else:
                return _many("multiply", factors)

    def signed(self) -> Formula:
        negative = False
        while sign := self.accept("+", "-", "±", "∓"):
            if sign in "±∓":
                self.count_sign()
                term = self.deeper(self.signed)
                return Formula("plusminus", (number(0), term), "+" if (sign == "±") is not negative else "-")
            negative ^= sign == "-"
        factor = self.power()
        return Formula("negative", (factor,)) if negative else factor

    def power(self) -> Formula:
        base = self.atom()
        while sign := self.accept("!", "°"):
            base = Formula("call", (base,), {"!": "factorial", "°": "degrees"}[sign])
        return Formula("power", (base, self.exponent())) if self.accept("^") else base

    def exponent(self) -> Formula:
        """What stands above: a group, or a signed power."""
        return self.deeper(self.signed)

    def atom(self) -> Formula:
        token = self.take()
        if token.kind == "number":
            return Formula("number", name="decimal" if "." in token.text else "", value=_exact(token.text))
        if token.kind == "symbol":
            return Formula("symbol", name=token.text + self.index())
        if token.text == "∅":
            return Formula("list", name="{}")
        if token.kind == "constant":
            return Formula("constant", name=token.text)
        if token.kind == "function":
            return self.deeper(lambda: self.call(token.text))
        if token.text in {"\\frac", "\\binom"}:
            return self.deeper(lambda: self.fraction(token.text))
        if token.text in {"\\sqrt", "\\cbrt"}:
            return self.deeper(lambda: self.call(token.text[1:]))
        if token.text == "⟦":
            return self.deeper(self.matrix)
        if token.text == "\\{":
            return self.deeper(self.listed)
        if token.text in _CLOSING:
            return self.deeper(lambda: self.bracketed(token.text))
        if token.text == "|":
            return self.deeper(self.absolute)
        raise FormulaError

    def deeper(self, read: Callable[[], Formula]) -> Formula:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise FormulaError
        made = read()
        self.depth -= 1
        return made

    def count_sign(self) -> None:
        self.signs += 1
        if self.signs > MAX_SIGNS:
            raise FormulaError

    def bracketed(self, opening: str) -> Formula:
        """A group in brackets, or a list such as `(1, 2]` and `[[1, 2], [3, 4]]`."""
        bars, self.bars = self.bars, 0
        inner = self.relation() if opening != "{" else self.sum()
        self.bars = bars
        if self.accept(_CLOSING[opening]):
            return inner
        if opening == "{" or self.peek().text != ",":
            raise FormulaError
        parts = [inner]
        while self.accept(","):
            parts.append(self.sum())
        closing = self.accept(")", "]")
        if not closing:
            raise FormulaError
        return Formula("list", tuple(parts), opening + closing)

    def listed(self) -> Formula:
        if self.accept("\\}"):
            return Formula("list", name="{}")
        parts = [self.relation()]
        while self.accept(",", ";"):
            parts.append(self.relation())
        self.require("\\}")
        return Formula("list", tuple(parts), "{}")

    def absolute(self) -> Formula:
        self.bars += 1
        inner = self.sum()
        self.bars -= 1
        self.require("|")
        return Formula("call", (inner,), "abs")

    def call(self, name: str) -> Formula:
        """A function with its argument, and what may stand between: `log_2 8`, `sin^2 x`, `\\sqrt[3]{x}`."""
        before: tuple[Formula, ...] = ()
        if name in {"log", "lg"}:
            before = (self.group() if self.accept("_") else number(10),)
        elif name in {"sqrt", "cbrt"}:
            degree = self.bracketed("[") if self.accept("[") else number(3 if name == "cbrt" else 2)
            before, name = (degree,), "root"
        raised = self.exponent() if self.accept("^") else None
        if raised == Formula("negative", (number(1),)) and name in _INVERSE:
            name, raised = _INVERSE[name], None
        made = Formula("call", (*before, self.argument(name)), _SAME.get(name, name))
        return made if raised is None else Formula("power", (made, raised))

    def argument(self, name: str) -> Formula:
        """Brackets, or for a root the next power, else the product of what follows: `sin 2x`."""
        if self.peek().text in _CLOSING or (self.peek().text == "|" and not self.bars):
            return self.atom()
        negative = self.accept("-") and name != "root"
        factors = [self.atom() if name == "root" else self.power()]
        while name != "root" and self.starts_atom(simple=True):
            factors.append(self.power())
        product = _many("multiply", factors)
        return Formula("negative", (product,)) if negative else product

    def fraction(self, name: str) -> Formula:
        top, bottom = self.group(), self.group()
        if name == "\\binom":
            return Formula("call", (top, bottom), "binomial")
        return Formula("multiply", (top, Formula("reciprocal", (bottom,))))

    def group(self) -> Formula:
        """A group in braces, or as LaTeX reads it the next digit or letter."""
        token = self.peek()
        if token.kind == "number" and len(token.text) > 1 and self.next and self._before() != "_":
            self.tokens[self.next] = Token("number", token.text[1:])
            return number(_exact(token.text[0]))
        return self.atom()

    def index(self) -> str:
        """What is written below a symbol, as part of its name."""
        if not self.accept("_"):
            return ""
        closing = self.accept("{")
        name = ""
        while self.peek().kind in {"number", "symbol", "constant"} and (closing or not name):
            name += self.take().text
        if closing:
            self.require("}")
        if not name:
            raise FormulaError
        return f"_{name}"

    def matrix(self) -> Formula:
        rows, row = [], [self.sum()]
        while sign := self.accept("&", "\\\\", "⟧"):
            if sign != "&":
                rows.append(Formula("list", tuple(row), "[]"))
                row = []
            if sign == "⟧" or (sign == "\\\\" and self.accept("⟧")):
                return Formula("matrix", tuple(rows))
            row.append(self.sum())
        raise FormulaError

    def starts_atom(self, *, simple: bool = False) -> bool:
        token = self.peek()
        if token.kind in {"number", "symbol", "constant"}:
            return True
        if token.kind == "function" or simple:
            return not simple
        return token.text in {"(", "[", "{", "\\frac", "\\sqrt", "\\cbrt", "\\binom"} or (
            token.text == "|" and not self.bars
        )

    def peek(self) -> Token:
        return self.tokens[self.next] if self.next < len(self.tokens) else _END

    def take(self) -> Token:
        token = self.peek()
        self.next += 1
        return token

    def accept(self, *texts: str) -> str:
        token = self.peek()
        if token.kind in {"sign", "word"} and token.text in texts:
            self.next += 1
            return token.text
        return ""

    def require(self, text: str) -> None:
        if not self.accept(text):
            raise FormulaError

    def _before(self) -> str:
        return self.tokens[self.next - 1].text


def _many(kind: str, parts: list[Formula]) -> Formula:
    return parts[0] if len(parts) == 1 else Formula(kind, tuple(parts))


def _exact(text: str) -> Fraction:
    return Fraction(text.rstrip(".") if text != "." else "0")
