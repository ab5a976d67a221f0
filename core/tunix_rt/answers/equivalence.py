"""Whether two answers mean the same, by the type of the expected one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from math import floor

from tunix_rt.answers.dates import is_date, parse_date
from tunix_rt.answers.expressions import same_expression, values_of
from tunix_rt.answers.extract import clean_answer
from tunix_rt.answers.formulas import formula_of
from tunix_rt.answers.lists import covers, nesting, split_items
from tunix_rt.answers.numbers import Quantity, parse_quantity, plain_text
from tunix_rt.answers.units import CURRENCIES

ANSWER_TYPES = (
    "integer",
    "decimal",
    "fraction",
    "percentage",
    "boolean",
    "choice",
    "set",
    "multiset",
    "list",
    "date",
    "currency",
    "expression",
    "text",
)
DEFAULT_TOLERANCE = 1e-6  # relative to the expected value; integers are compared exactly, money to the cent

_POLARITY = {"yes": True, "true": True, "correct": True, "no": False, "false": False, "incorrect": False}
_POLARITY_LETTERS = {"y": True, "t": True, "n": False, "f": False}
_NUMBERS = frozenset({"integer", "decimal", "fraction", "percentage", "currency"})
_CONSTANT = re.compile(r"[eiπ]|\\pi")  # in a rational function they are letters like any other
_REGION = re.compile(
    r"∞|\\infty|∪|\\cup(?![a-z])|\\begin|^\[[^\[\]()]*,[^\[\]()]*\)$|^\([^\[\]()]*,[^\[\]()]*\]$"
)
_FORMULA = re.compile(
    r"[√∛≤≥≠<>±^²³]|\\(?:sqrt|pm|leq?|geq?|neq?|lt|gt|in|[a-z]*frac|binom|ln|log|exp|(?:arc)?(?:sin|cos|tan))(?![a-z])"
    r"|(?<![a-z])(?:sqrt|ln|log(?:_?\d+)?|exp|(?:arc)?(?:sin|cos|tan))\s*[\d(]|[a-z]\s*=.*[-+*/^]"
)
_PAIR_LIMIT = 10_000  # pairs of items that are compared by type; larger collections are compared as text
_NESTING_LIMIT = 10
_CHOICE = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+|right\s+|best\s+)?(?:option|choice|answer)\s*(?:is\b)?\s*:?\s*)?(?:option\s+)?"
    r"[(\[]?([A-Za-z])(?:[)\].:,]+(?:\s.*)?|\s+[-:=]\s.*)?",
    re.IGNORECASE | re.DOTALL,
)

SameFormula = Callable[[str, str, float], bool]  # predicted, expected, relative tolerance


class UndecidedError(ValueError):
    """Both answers are formulas that only `same_formula` can compare."""


def equivalent(
    predicted: str,
    expected: str,
    answer_type: str = "",
    aliases: Sequence[str] = (),
    tolerance: float = DEFAULT_TOLERANCE,
    formulas: SameFormula | None = None,
) -> bool:
    """Whether a predicted answer equals the expected one or one of its aliases.

    `answer_type` is one of ANSWER_TYPES, or "" to take the type that each expected text shows.
    Numbers are compared exactly as fractions, then within `tolerance` relative to the expected value
    (never for integers; money is compared to the cent). Units are converted; a missing unit on one side is
    accepted, another one not. A list has an order, a multiset none, and in a set repeats do not count.
    Dates are equal if they are the same day; where day and month could change places, only in the same
    order. Expressions are equal as rational functions.
    An expected text that is not of its type ("Paris" as an alias of choice B) is compared as text.
    Expressions beyond rational functions are compared by `formulas`, which is `same_formula` where its work
    is limited; without it they raise UndecidedError.
    """
    if answer_type and answer_type not in ANSWER_TYPES:
        raise ValueError(f"answer_type is {answer_type!r}; it must be one of {', '.join(ANSWER_TYPES)}.")
    if tolerance < 0:
        raise ValueError(f"tolerance is {tolerance}; it must not be negative.")
    guess = clean_answer(predicted)
    if not guess:
        return False
    return any(
        guess == target or _matches(guess, target, answer_type or detect_type(target), tolerance, formulas)
        for target in (clean_answer(text) for text in (expected, *aliases))
        if target
    )


@lru_cache(maxsize=1024)
def detect_type(expected: str) -> str:
    """The answer type that an expected answer's own form shows."""
    cleaned = clean_answer(expected)
    text = plain_text(cleaned)
    if text.casefold() in _POLARITY:
        return "boolean"
    if re.fullmatch(r"\(?[A-J]\)?\.?", text):
        return "choice"
    if re.fullmatch(r"\{.*\}", text, re.DOTALL):
        return "set"
    if _REGION.search(cleaned) and formula_of(cleaned) is not None:
        return "expression"
    if re.fullmatch(r"\[.*\]|\(.*,.*\)", text, re.DOTALL):
        return "list"
    if is_date(text):
        return "date"
    if re.fullmatch(r"(?:[a-z]\s*=\s*)?-?\d[\d./]*[xyzn]", text) or re.search(r"π|\\pi(?![a-z])", text):
        return "expression" if _is_expression(cleaned) else "text"
    quantity = parse_quantity(text) if re.match(r"[-+$€£¥₹.\d(]|[A-Za-z]\w*\s*=", text) else None
    if quantity is not None and len(re.findall(r"\d+", text)) <= 6:
        return _number_type(text, quantity)
    if _looks_like_expression(text) and values_of(cleaned) is not None:
        return "expression"
    if _FORMULA.search(cleaned) and formula_of(cleaned) is not None:
        return "expression"
    items = split_items(text)
    if len(items) > 1 and all(parse_quantity(item) is not None for item in items):
        return "list"
    return "text"


def _is_expression(text: str) -> bool:
    return values_of(text) is not None or formula_of(text) is not None


def _looks_like_expression(text: str) -> bool:
    """Whether a text has variables of one letter, operators and no words."""
    return (
        re.search(r"[A-Za-z]{2}", re.sub(r"\\[a-z]+", "", text)) is None
        and re.search(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", text) is not None
        and re.search(r"[-+*/^]|[\d)]\s*\(", text) is not None
    )


def _number_type(text: str, quantity: Quantity) -> str:
    if quantity.percent:
        return "percentage"
    if quantity.unit in CURRENCIES:
        return "currency"
    whole = (quantity.value / quantity.factor).denominator == 1
    if "/" in text and not whole:
        return "fraction"
    return "integer" if whole and "." not in text else "decimal"


def _matches(guess: str, target: str, kind: str, tolerance: float, formulas: SameFormula | None) -> bool:
    if kind in _NUMBERS:
        return _numbers_match(guess, target, kind, tolerance)
    if kind == "boolean" and _polarity(target) is not None:
        return _polarity(guess) is _polarity(target)
    if kind == "choice" and _choice(target) is not None:
        return _choice(guess) == _choice(target)
    if kind in {"list", "multiset", "set"}:
        return _collections_match(guess, target, kind, tolerance, formulas)
    if kind == "date" and (wanted := parse_date(plain_text(target))) is not None:
        return parse_date(plain_text(guess)) == wanted
    if kind == "expression":
        return _expressions_match(guess, target, tolerance, formulas)
    return _plain(guess) == _plain(target)


def _expressions_match(guess: str, target: str, tolerance: float, formulas: SameFormula | None) -> bool:
    if same_expression(guess, target) or _plain(guess) == _plain(target):
        return True
    rational = values_of(guess) is not None and values_of(target) is not None
    if (rational and not _CONSTANT.search(guess + target)) or not (formula_of(guess) and formula_of(target)):
        return False
    if formulas is None:
        raise UndecidedError(f"`{guess}` and `{target}` are formulas; give `formulas` to compare them.")
    return formulas(guess, target, tolerance)


def _numbers_match(guess: str, target: str, kind: str, tolerance: float) -> bool:
    wanted, given = parse_quantity(target), parse_quantity(guess)
    if wanted is None or given is None:
        return _plain(guess) == _plain(target)
    if wanted.unit != given.unit and wanted.unit and given.unit:  # one may have several meanings
        given = parse_quantity(guess, like=wanted.unit) or given
        wanted = parse_quantity(target, like=given.unit) or wanted
        if wanted.unit != given.unit:
            return False
    if kind == "percentage":
        return given.unit in {"", wanted.unit} and _percentages_match(given, wanted, tolerance)
    value = given.value
    if wanted.unit and not given.unit:
        value = given.value * wanted.factor
    elif given.unit and not wanted.unit:
        value = given.value / given.factor
    if kind == "currency":
        is_money = given.percent is wanted.percent and (
            not given.unit or given.unit in CURRENCIES | {wanted.unit}
        )
        return is_money and _cents(value) == _cents(wanted.value)
    return value == wanted.value or (kind != "integer" and _close(value, wanted.value, tolerance))


def _percentages_match(given: Quantity, wanted: Quantity, tolerance: float) -> bool:
    """5%, 0.05 and a bare 5 are all 5%."""
    value = wanted.value if wanted.percent else wanted.value / 100
    readings = [given.value] if given.percent else [given.value, given.value / 100]
    return any(_close(reading, value, tolerance) for reading in readings)


def _cents(value: Fraction) -> int:
    return floor(value * 100 + Fraction(1, 2))


def _close(given: Fraction, wanted: Fraction, tolerance: float) -> bool:
    return abs(given - wanted) <= Fraction(tolerance) * abs(wanted)


def _polarity(text: str) -> bool | None:
    """True for yes, False for no, None when the text says both or neither; "not" turns the next word."""
    plain = re.sub(r"\bcorrect (?=answer|option|choice)", "", plain_text(text).casefold())
    words = re.findall(r"[a-z']+", plain.replace("’", "'"))
    if len(words) == 1 and words[0] in _POLARITY_LETTERS:
        return _POLARITY_LETTERS[words[0]]
    found = set()
    for previous, word in zip(["", *words], words, strict=False):
        if word in _POLARITY:
            found.add(_POLARITY[word] is not (previous == "not" or previous.endswith("n't")))
    return found.pop() if len(found) == 1 else None


def _choice(text: str) -> str | None:
    match = _CHOICE.fullmatch(plain_text(text))
    return match.group(1).upper() if match else None


def _collections_match(
    guess: str, target: str, kind: str, tolerance: float, formulas: SameFormula | None
) -> bool:
    if nesting(target) > _NESTING_LIMIT:
        return _plain(guess) == _plain(target)
    given, wanted = split_items(guess), split_items(target)
    if (values := _by_name(given)) and (targets := _by_name(wanted)):
        return values.keys() == targets.keys() and all(
            _matches(values[name], value, detect_type(value), tolerance, formulas)
            for name, value in targets.items()
        )
    types = {item: detect_type(item) if len(item) < len(target) else "text" for item in wanted}

    def matches(item: str, other: str) -> bool:
        return _matches(item, other, types[other], tolerance, formulas)

    if kind != "set" and len(given) != len(wanted):
        return False
    if kind == "list":
        return all(matches(item, other) for item, other in zip(given, wanted, strict=True))
    if len(given) * len(wanted) > _PAIR_LIMIT:
        shown = Counter(map(_plain, given)), Counter(map(_plain, wanted))
        return shown[0] == shown[1] if kind == "multiset" else shown[0].keys() == shown[1].keys()
    if not covers(given, wanted, matches, once=kind == "multiset"):
        return False
    return kind == "multiset" or covers(wanted, given, lambda other, item: matches(item, other), once=False)


def _by_name(items: list[str]) -> dict[str, str]:
    """The values of items that are all of the form `x = 1`, by name; empty if they are not."""
    pairs = [re.fullmatch(r"([A-Za-z]\w*)\s*=\s*([^=]+)", item) for item in items]
    named = {pair.group(1): clean_answer(pair.group(2)) for pair in pairs if pair is not None}
    return named if len(named) == len(items) else {}


def _plain(text: str) -> str:
    words = re.sub(r"\s+", " ", plain_text(text).casefold()).strip(" .!?,;:'\"")
    return re.sub(r"^(?:the|an|a) (?=\w)", "", words)
