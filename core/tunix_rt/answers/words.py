"""Numbers that are written as English words."""

from __future__ import annotations

import re
from fractions import Fraction

_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7}
_PARTS |= {"eighth": 8, "ninth": 9, "tenth": 10}

_VALUES = {word: value for value, word in enumerate(_SMALL)}
_VALUES |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
NUMBER_WORDS = (*_VALUES, *SCALES)
_WORD = "|".join(NUMBER_WORDS)
_NUMBER = re.compile(
    rf"(?:a(?=\s+(?:{'|'.join(SCALES)})\b)|{_WORD})(?:(?:[- ]+and[- ]+|[- ]+)(?:{_WORD}))*\b", re.IGNORECASE
)
_SIGN = re.compile(r"(?:minus|negative)\s+", re.IGNORECASE)
_PART = re.compile(
    rf"(?P<link>[- ]*(?:and[- ]+)?)(?P<one>an?[- ]+)?(?P<part>{'|'.join(_PARTS)})(?P<plural>s?)\b",
    re.IGNORECASE,
)
_REST = re.compile(rf"(?:[\s-]+(?!(?:of|or|and|{'|'.join(_PARTS)})\b)[^\W\d_]+){{0,3}}\.?", re.IGNORECASE)


def with_digits(text: str) -> str:
    """The text with the number words that it begins with as digits: `forty-two apples` is `42 apples`.

    `two thirds` is `2/3` and `one and a half` is `3/2`. A text that goes on after three more words, or
    with "of", "or" or "and", is left alone, and so are words that no one number is read as (`two three`).
    """
    if len(text) > 120:
        return text
    sign = _SIGN.match(text)
    start = sign.end() if sign else 0
    number = _NUMBER.match(text, start)
    value = _whole(number.group()) if number else None
    end = number.end() if number and value is not None else start
    part = _PART.match(text, end)
    if part is not None:
        scaled = _with_part(value, part)
        value, end = (value, end) if scaled is None else (scaled, part.end())
    if value is None or not _REST.fullmatch(text, end):
        return text
    shown = value if value.denominator > 1 else value.numerator
    return f"{'-' if sign else ''}{shown}{text[end:]}"


def _with_part(value: Fraction | None, part: re.Match[str]) -> Fraction | None:
    """A number with the "half" or "thirds" after it; `fifth` and `twenty-fifth` are ordinals."""
    name = part.group("part").casefold()
    share = Fraction(1, _PARTS[name])
    if part.group("one"):
        return None if part.group("plural") else (value or 0) + share
    if value is None:
        return share if name == "half" else None
    linked = part.group("link")
    fits = bool(part.group("plural")) is (value != 1) and linked and "and" not in linked.casefold()
    return value * share if fits else None


def _whole(text: str) -> Fraction | None:
    words = [word for word in re.split(r"[- ]+", text.casefold()) if word != "and"]
    words = ["one", *words[1:]] if words[0] == "a" else words
    total, current = 0, 0
    for word in words:
        if word == "hundred":
            current = max(current, 1) * 100
        elif word in SCALES:
            total, current = total + max(current, 1) * SCALES[word], 0
        else:
            current += _VALUES[word]
    total += current
    return Fraction(total) if _spelled(total) == (["one", *words] if words[0] in SCALES else words) else None


def _spelled(number: int) -> list[str]:
    if number < 20:
        return [_SMALL[number]]
    if number < 100:
        return [_TENS[number // 10 - 2], *([_SMALL[number % 10]] if number % 10 else [])]
    name, scale = max((item for item in SCALES.items() if item[1] <= number), key=lambda item: item[1])
    rest = _spelled(number % scale) if number % scale else []
    return [*_spelled(number // scale), name, *rest]
