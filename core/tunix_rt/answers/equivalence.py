"""Whether two answers mean the same, by the type of the expected one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from tunix_rt.answers.extract import clean_answer
from tunix_rt.answers.numbers import Quantity, parse_quantity, plain_text

ANSWER_TYPES = (
    "integer",
    "decimal",
    "fraction",
    "percentage",
    "boolean",
    "choice",
    "set",
    "list",
    "text",
)
DEFAULT_TOLERANCE = 1e-6  # relative to the expected value; integers are compared exactly

_POLARITY = {"yes": True, "true": True, "correct": True, "no": False, "false": False, "incorrect": False}
_ITEM_LIMIT = 10_000


def equivalent(
    predicted: str,
    expected: str,
    answer_type: str = "",
    aliases: Sequence[str] = (),
    tolerance: float = DEFAULT_TOLERANCE,
) -> bool:
    """Whether a predicted answer equals the expected one or one of its aliases.

    `answer_type` is one of ANSWER_TYPES, or "" to take the type that each expected text shows.
    Numbers are compared exactly as fractions, then within `tolerance` relative to the expected value
    (never for integers). Units are converted; a missing unit on one side is accepted, another one not.
    An expected text that is not of its type ("Paris" as an alias of choice B) is compared as text.
    """
    if answer_type and answer_type not in ANSWER_TYPES:
        raise ValueError(f"answer_type is {answer_type!r}; it must be one of {', '.join(ANSWER_TYPES)}.")
    if tolerance < 0:
        raise ValueError(f"tolerance is {tolerance}; it must not be negative.")
    guess = clean_answer(predicted)
    if not guess:
        return False
    return any(
        _matches(guess, target, answer_type or detect_type(target), tolerance)
        for target in (clean_answer(text) for text in (expected, *aliases))
        if target
    )


def detect_type(expected: str) -> str:
    """The answer type that an expected answer's own form shows."""
    text = plain_text(clean_answer(expected))
    if text.casefold() in _POLARITY:
        return "boolean"
    if re.fullmatch(r"\(?[A-J]\)?\.?", text):
        return "choice"
    if re.fullmatch(r"\{.*\}", text, re.DOTALL):
        return "set"
    if re.fullmatch(r"\[.*\]|\(.*,.*\)", text, re.DOTALL):
        return "list"
    quantity = parse_quantity(text) if re.match(r"[-+$€£.\d(]|[A-Za-z]\w*\s*=", text) else None
    if quantity is not None and len(re.findall(r"\d+", text)) <= 6:
        return _number_type(text, quantity)
    items = split_items(text)
    if len(items) > 1 and all(parse_quantity(item) is not None for item in items):
        return "list"
    return "text"


def split_items(text: str) -> list[str]:
    """The items of a list or set: brackets and quotes removed, split at `;`, `, `, `,` or "and"."""
    body = plain_text(text)
    if body[:1] in "[{(" and body[-1:] in "]})":
        body = body[1:-1]
    body = re.sub(r"\s+and\s+", ", ", re.sub(r",\s+and\s+", ", ", body))
    separator = ";" if ";" in body else (", " if ", " in body else ("," if "," in body else None))
    if separator is None:
        parts = body.split() if re.fullmatch(r"[-+.\d\s/%]+", body) else [body]
    else:
        parts = body.split(separator, _ITEM_LIMIT)
    return [item for item in (clean_answer(part) for part in parts) if item]


def _number_type(text: str, quantity: Quantity) -> str:
    if quantity.percent:
        return "percentage"
    if "/" in text and quantity.value.denominator != 1:
        return "fraction"
    return "integer" if quantity.value.denominator == 1 and "." not in text else "decimal"


def _matches(guess: str, target: str, kind: str, tolerance: float) -> bool:
    if kind in {"integer", "decimal", "fraction", "percentage"}:
        return _numbers_match(guess, target, kind, tolerance)
    if kind == "boolean" and _polarity(target) is not None:
        return _polarity(guess) is _polarity(target)
    if kind == "choice" and _choice(target) is not None:
        return _choice(guess) == _choice(target)
    if kind in {"list", "set"}:
        return _collections_match(guess, target, tolerance, ordered=kind == "list")
    return _plain(guess) == _plain(target)


def _numbers_match(guess: str, target: str, kind: str, tolerance: float) -> bool:
    wanted, given = parse_quantity(target), parse_quantity(guess)
    if wanted is None or given is None:
        return _plain(guess) == _plain(target)
    if wanted.unit and given.unit and wanted.unit != given.unit:
        return False
    values = [given.value]
    value = wanted.value
    if kind == "percentage":
        value = wanted.value if wanted.percent else wanted.value / 100
        values = [given.value] if given.percent else [given.value, given.value / 100]
    elif wanted.unit and not given.unit:
        values = [given.value * _scale(target, wanted)]
    elif given.unit and not wanted.unit:
        values = [given.value / _scale(guess, given)]
    if kind == "integer":
        return value in values
    return any(_close(candidate, value, tolerance) for candidate in values)


def _scale(text: str, quantity: Quantity) -> Fraction:
    """What the unit of a text multiplied its bare number with, so that a missing unit can be filled in."""
    bare = re.sub(r"[^\W\d_]+|[°$€£¢]", "", plain_text(text).rsplit("=", 1)[-1])
    number = parse_quantity(bare)
    return quantity.value / number.value if number is not None and number.value else Fraction(1)


def _close(given: Fraction, wanted: Fraction, tolerance: float) -> bool:
    return abs(given - wanted) <= Fraction(tolerance) * abs(wanted)


def _polarity(text: str) -> bool | None:
    """True for yes, False for no, None when the text says both or neither; "not" turns the next word."""
    words = re.findall(r"[a-z']+", plain_text(text).casefold())
    found = set()
    for previous, word in zip(["", *words], words, strict=False):
        if word in _POLARITY:
            found.add(_POLARITY[word] is not (previous == "not"))
    return found.pop() if len(found) == 1 else None


def _choice(text: str) -> str | None:
    match = re.fullmatch(
        r"(?:(?:option|choice|answer)\s+)?[(\[]?([A-Za-z])(?:[)\].:,]+(?:\s.*)?|\s+[-:]\s.*)?",
        plain_text(text),
        re.IGNORECASE | re.DOTALL,
    )
    return match.group(1).upper() if match else None


def _collections_match(guess: str, target: str, tolerance: float, *, ordered: bool) -> bool:
    given, wanted = split_items(guess), split_items(target)
    if ordered:
        return len(given) == len(wanted) and all(
            _matches(left, right, detect_type(right), tolerance)
            for left, right in zip(given, wanted, strict=True)
        )
    return _covers(given, wanted, tolerance) and _covers(wanted, given, tolerance)


def _covers(items: list[str], others: list[str], tolerance: float) -> bool:
    if len(items) * len(others) > _ITEM_LIMIT:
        return {_plain(item) for item in items} >= {_plain(other) for other in others}
    return all(
        any(_matches(item, other, detect_type(other), tolerance) for item in items) for other in others
    )


def _plain(text: str) -> str:
    words = re.sub(r"\s+", " ", plain_text(text).casefold()).strip(" .!?,;:'\"")
    return re.sub(r"^(?:the|an|a) (?=\w)", "", words)
