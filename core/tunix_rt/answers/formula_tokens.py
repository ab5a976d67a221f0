"""The words of a formula, written as plain text, Unicode or LaTeX."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MAX_LENGTH = 1000
MAX_NUMBER = 60  # digits of a number that is written out

FUNCTIONS = frozenset(
    (
        *("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "asin", "acos", "atan"),
        *("sinh", "cosh", "tanh", "ln", "lg", "log", "exp", "sqrt", "cbrt", "abs"),
    )
)
_GREEK_NAMES = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda", "mu", "nu"),
    *("xi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega"),
)
_GREEK = {
    name: unicodedata.lookup(f"GREEK SMALL LETTER {name.replace('lambda', 'lamda')}") for name in _GREEK_NAMES
}
_LAYOUT = ("left", "right", "bigl", "bigr", "big", "Big", "displaystyle", "quad", "qquad", "limits")
_COMMANDS = {
    **{name: f" {letter} " for name, letter in _GREEK.items()},
    **{f"var{name}": f" {_GREEK[name]} " for name in ("epsilon", "theta", "phi")},
    **dict.fromkeys(_LAYOUT, " "),
    **dict.fromkeys(("cdot", "times", "ast"), "*"),
    **dict.fromkeys(("le", "leq", "leqslant"), "≤"),
    **dict.fromkeys(("ge", "geq", "geqslant"), "≥"),
    **dict.fromkeys(("ne", "neq"), "≠"),
    **dict.fromkeys(("lvert", "rvert", "vert"), "|"),
    **dict.fromkeys(("circ", "degree"), "°"),
    **dict.fromkeys(("emptyset", "varnothing"), "∅"),
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), "\\frac"),
    "div": "/",
    "lt": "<",
    "gt": ">",
    "pm": "±",
    "mp": "∓",
    "infty": "∞",
    "cup": "∪",
    "in": "∈",
    "pi": "π",
    "approx": "≈",
    "land": " and ",
    "lor": " or ",
    "lbrace": "\\{",
    "rbrace": "\\}",
}
_SIGNS = {
    **dict.fromkeys("×·⋅∗", "*"),
    **dict.fromkeys(("<=", "⩽"), "≤"),
    **dict.fromkeys((">=", "⩾"), "≥"),
    "**": "^",
    "÷": "/",
    "==": "=",
    "≃": "≈",
    "!=": "≠",
}
_WORDS = {"pi": "π", "infinity": "∞", "inf": "∞", "oo": "∞", **_GREEK}
_CONSTANTS = frozenset("πei∞∅ℝ")
_KNOWN = sorted([*FUNCTIONS, *_WORDS], key=len, reverse=True)

_TEXT = re.compile(r"\\(?:operatorname|mathrm|text|textrm|mathit|mathbf|boldsymbol)\s*\*?\s*\{([^{}\\]*)\}")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_SPACE = re.compile(r"(?<!\\)\\[,;:!> ]|~")
_RAISED = re.compile(r"[⁰¹²³⁴-⁹⁺⁻⁽⁾ⁿⁱˣ]+")
_LOWERED = re.compile(r"[₀-₉]+")
_BUILDER = re.compile(
    r"\\?\{\s*[A-Za-z]\s*(?:(?:∈|\\in)\s*(?:\\mathbb\s*\{?\s*R\s*\}?|ℝ)\s*)?(?:\\mid|:|\|)(.*?)\\?\}",
    re.DOTALL,
)
_PROSE = re.compile(
    r"(?<![A-Za-z\\])(?!or\b|pi\b|ln\b|lg\b)[A-Za-z]{2} +(?!or\b|pi\b|ln\b|lg\b)[A-Za-z]{2}\b"
)
_MATRIX = re.compile(
    r"\\(begin|end)\s*\{\s*[pbB]?matrix\s*\}"
)  # a vmatrix, which is a determinant, is not read
_LABEL = re.compile(r"^\s*[A-Za-z]\s*\(\s*[A-Za-z]\s*\)\s*=(?!=)")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:\{,\}\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
    r"|(?P<command>\\(?:frac|sqrt|cbrt|binom)(?![A-Za-z]))|(?P<brace>\\[{}])|(?P<row>\\\\)"
    r"|(?P<word>\\?[A-Za-z]+)|(?P<letter>[α-ωπ∞∅ℝ])|(?P<sign>\*\*|<=|>=|!=|==|[-+*/^_()\[\]{}|!°,;=<>≤≥≠≈±∓∪∈&⟦⟧×·⋅∗÷≃⩽⩾]))"
)


class FormulaError(ValueError):
    """The text is no formula that can be read."""


@dataclass(frozen=True)
class Token:
    """A word of a formula.

    `kind` is "number", "symbol", "constant", "function", "word" (and, or), "sign" or "end".
    """

    kind: str
    text: str


def tokens_of(text: str) -> list[Token]:
    """The words of a formula in order. Raises FormulaError where there is something else."""
    if len(text) > MAX_LENGTH:
        raise FormulaError
    text = _with_signs(text)
    if _PROSE.search(text):
        raise FormulaError
    tokens: list[Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise FormulaError
        tokens += _read(str(match.lastgroup), match.group(str(match.lastgroup)))
        position = match.end()
    return tokens


def _with_signs(text: str) -> str:
    """The text with one sign for each meaning, and without what only lays it out."""
    text = _RAISED.sub(lambda match: f"^{{{unicodedata.normalize('NFKC', match.group())}}}", text)
    text = _LOWERED.sub(lambda match: f"_{{{unicodedata.normalize('NFKC', match.group())}}}", text)
    text = re.sub(r"[\u2010-\u2014\u2212\ufe63\uff0d]", "-", text.replace("ℝ", "\\mathbb{R}"))
    text = unicodedata.normalize("NFKC", text)
    text = text.replace("√", " \\sqrt ").replace("∛", " \\cbrt ")
    text = _MATRIX.sub(lambda match: "⟦" if match.group(1) == "begin" else "⟧", text)
    text = _BUILDER.sub(r"\1", text) if _BUILDER.fullmatch(text.strip()) else text
    text = re.sub(r"\\mathbb\s*\{?\s*R\s*\}?", " ℝ ", _SPACE.sub(" ", _TEXT.sub(r" \1 ", text)))
    text = _COMMAND.sub(lambda match: _COMMANDS.get(match.group(1), match.group()), text)
    text = re.sub(r"\^\s*(?:\{\s*°\s*\}|°)", "°", text)
    text = _LABEL.sub("", text).lstrip("=≈ ").rstrip(". ")
    if text.startswith("{") and text.endswith("}"):
        text = f"\\{text[:-1]}\\}}"
    return text


def _read(kind: str, text: str) -> list[Token]:
    if kind == "number":
        if len(text) > MAX_NUMBER:
            raise FormulaError
        return [Token("number", text.replace("{,}", ""))]
    if kind == "letter":
        return [Token("constant" if text in _CONSTANTS else "symbol", text)]
    if kind == "word":
        return _words(text)
    return [Token("sign", _SIGNS.get(text, text))]


def _words(text: str) -> list[Token]:
    """A run of letters: a function, `or`, `and`, or a product such as `xy` and `xsinx`; no other word."""
    command = text.startswith("\\")
    if text in {"or", "and"}:
        return [Token("word", text)]
    if command and text[1:] not in FUNCTIONS:
        raise FormulaError
    text = text.removeprefix("\\")
    tokens: list[Token] = []
    letters = 0
    while text:
        known = next((name for name in _KNOWN if text.startswith(name)), text[0])
        text = text[len(known) :]
        if known in FUNCTIONS:
            tokens.append(Token("function", known))
            continue
        letters += known not in _WORDS
        known = _WORDS.get(known, known)
        tokens.append(Token("constant" if known in _CONSTANTS else "symbol", known))
    if letters > 2:
        raise FormulaError
    return tokens
