"""Numbers as people write them: exact values with units."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from tunix_rt.answers.units import CURRENCY_SIGNS, is_variable, plain_units, read_unit
from tunix_rt.answers.words import NUMBER_WORDS, SCALES, with_digits

MAX_DIGITS = 400  # a longer number in a text is noise, and big powers of ten would cost time
MAX_EXPONENT = 400

_CORE = (
    r"\d{1,3}(?:\.\d{3})+,(?!\d{3}(?!\d))\d+(?![\d,])"
    r"|\d{1,3}(?:[ '\u2009\u202f\u00a0]\d{3})+,(?!\d{3}(?!\d))\d+(?![\d,])"
    r"|\d{1,3}(?:\.\d{3}){2,}(?![\d.])"
    r"|(?:\d{1,3}(?:[,_'\u2009\u202f\u00a0 ]\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+"
)
_COMMA_DECIMAL = re.compile(r"\d{1,3}(?:[. '\u2009\u202f\u00a0]\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}")
_COMMA_CENTS = re.compile(r"(?<![\d.,])(\d+),(\d\d)(?![\d,])")
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?P<currency>[$€£¥₹]?)\s*(?P<sign2>[-+]?)"
    rf"(?:(?P<whole>\d+)\s+(?P<mixed>\d+/\d+)|(?P<top>{_CORE})\s*/\s*(?P<bottom>\d+(?:\.\d+)?)"
    rf"|(?P<number>{_CORE})(?:[eE](?P<exp>[-+]?\d+)|\s*[×x*·]\s*10\^\{{?(?P<power>[-+]?\d+)\}}?)?)"
)
_SCALES = SCALES | {"dozen": 12, "k": 10**3, "m": 10**6, "mn": 10**6, "b": 10**9, "bn": 10**9}
_SCALE = re.compile(rf"\s*(?P<word>{'|'.join(SCALES)}|dozen)s?\b|(?:k|mn?|bn?)\b", re.IGNORECASE)
_UNIT = re.compile(
    r"\s*(?P<unit>[%°]|[^\W\d_]+(?:\^\d)?(?:\s?[/^]\s?[^\W\d_]*(?:\^?\d)?)*|[¢$€£¥₹](?:\s?/\s?[^\W\d_]+)?)?"
    r"(?P<rest>.*)",
    re.DOTALL,
)
_RATE = re.compile(r"\s*/\s*[^\W\d_]+")
_COMPOUND_PART = re.compile(
    rf"(?P<number>{_CORE})\s*(?P<unit>[^\W\d_]+|[$€£°])\.?(?:\s*,\s*|\s+and\s+|\s+|\Z)(?:and\s+)?"
)
_MINUS = re.compile(r"\b(?:minus|negative)\s+(?=[$€£¥₹]?[\d.])", re.IGNORECASE)
_NOT_PLAIN = re.compile(
    r"[=+*/×<>√∛≥≤≠±^]|\d-|(?:sqrt|log|ln|sin|cos|tan|root of|times|plus|minus)\s*$", re.IGNORECASE
)
_DENIAL = re.compile(r"\b(?:not|no|never|isn't|neither)\b", re.IGNORECASE)
_SEVERAL_NAMES = re.compile(r"=[^=]*(?:[,;]\s*|\s+and\s+)[A-Za-z]\w*\s*=")
_OTHER_NUMBER = re.compile(rf"\b(?:and|or|to|by)\s+(?:{'|'.join(NUMBER_WORDS)})\b", re.IGNORECASE)
_MONEY = re.compile(r"[$€£¥₹]|\b(?:euros?|eur|usd|gbp)\b", re.IGNORECASE)
_LATEX_SIGNS = re.compile(r"[\\${^]")
_PREFIX = re.compile(r"^(?:[A-Za-z]\w*|[A-Za-z]\([A-Za-z]\))\s*[=≈]\s*(?=[^=])")
_TERM = re.compile(r"(?<![\w.])(?:\d[\d,_.]*(?:/\d+)?|\.\d+)")


@dataclass(frozen=True)
class Quantity:
    """An exact value in base units; `unit` is its dimension, or the name of a unit that is not known.

    `factor` is what the unit multiplied the written number with.
    """

    value: Fraction
    unit: str
    percent: bool = False
    factor: Fraction = Fraction(1)


def plain_text(text: str) -> str:
    """The text with one form for minus signs, fractions, exponents, widths and simple LaTeX."""
    if text.isascii() and not _LATEX_SIGNS.search(text):
        return " ".join(text.split())
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"[\u2212\u2013\u2014\u2010\u2011\ufe63\uff0d]", "-", text)
    text = re.sub(r"(?<=\d)(?=[¼½¾⅐-⅞])", " ", text)
    text = re.sub(r"[⁰¹²³⁴-⁹]+", lambda m: "^" + unicodedata.normalize("NFKC", m.group()), text)
    text = text.replace("º", "°")
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/")
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r" \1/\2", text)
    text = re.sub(r"\\(?:text|mathrm|mbox|textbf|mathbf)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degree", "°", text)
    text = re.sub(r"\\(?:times|cdot)", "×", text)
    text = re.sub(r"\\[,;! ]|\\(?:left|right)(?![a-z])", "", text).replace("{,}", ",")
    text = re.sub(r"\\([%$#&{}])", r"\1", text)
    text = re.sub(r"\s+", " ", text).strip()
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] == "$" else text


def parse_quantity(text: str, like: str = "") -> Quantity | None:
    """Reads the one number that a short text states, or None when it states none or several.

    Accepts thousands separators, fractions, mixed numbers, percents, exponents, currency, units also in
    parts (`1 h 30 min`), number words, `x = 5` and, of a calculation `17 + 25 = 42`, the right-hand side.
    A comma is decimal only where it cannot separate thousands (`1.234,56`, `3,50 €`). "not 5" states
    nothing. `like` is the dimension that decides what an ambiguous unit means.
    """
    text = plain_text(text).lstrip(" *").rstrip(" .!;,*")
    if not text or _DENIAL.search(text) or _SEVERAL_NAMES.search(text):
        return None
    text = _MINUS.sub("-", _PREFIX.sub("", plain_units(text)))
    if text[:1].isalpha():
        text = with_digits(text)
    elif "," in text and _MONEY.search(text):
        text = _COMMA_CENTS.sub(r"\1.\2", text)
    whole = _whole_quantity(text, like)
    if whole is not None:
        return whole
    if "=" in text:
        return _whole_quantity(text.rsplit("=", 1)[1].strip(), like)
    return _compound(text) or _only_number(text, like)


def _whole_quantity(text: str, like: str) -> Quantity | None:
    """The quantity that a text is from its first to its last character, a few trailing words aside."""
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    match = _NUMBER.match(text)
    if match is None:
        return None
    value = _value(match)
    end = match.end()
    currency = match.group("currency")
    scale = _SCALE.match(text, end)
    if value is not None and scale is not None and (currency or scale.group("word") or scale.group() == "k"):
        value, end = value * _SCALES[(scale.group("word") or scale.group()).casefold()], scale.end()
    rate = _RATE.match(text, end) if currency else None
    if rate is not None:
        currency, end = currency + rate.group().replace(" ", ""), rate.end()
    tail = _UNIT.fullmatch(text[end:])
    if value is None or tail is None or _OTHER_NUMBER.search(text, end):
        return None
    rest = tail.group("rest").strip(" .!")
    if rest and (re.search(r"[\d=+*/<>^-]", rest) or not re.match(r"[\w(,]", rest)):
        return None
    unit = tail.group("unit") or ""
    if not currency and is_variable(unit) and not (unit == "a" and rest):
        return None
    return _quantity(value, currency or ("" if unit == "in" and rest else unit), like)


def _compound(text: str) -> Quantity | None:
    """The sum of a quantity in parts, such as `5 ft 3 in`, whose units get smaller."""
    if len(text) > 100 or not text[:1].isdigit():
        return None
    parts: list[Quantity] = []
    position = 0
    while position < len(text):
        match = _COMPOUND_PART.match(text, position)
        if match is None or len(parts) == 4:
            return None
        part = _quantity(_decimal(match.group("number")), match.group("unit"), parts[0].unit if parts else "")
        if parts and (part.unit != parts[0].unit or part.factor >= parts[-1].factor):
            return None
        parts.append(part)
        position = match.end()
    if len(parts) < 2:
        return None
    return Quantity(
        value=sum((part.value for part in parts), Fraction(0)), unit=parts[0].unit, factor=parts[0].factor
    )


def _only_number(text: str, like: str) -> Quantity | None:
    """The number of a sentence that has exactly one, its unit being the word that follows."""
    starts = [match.start() for match in _TERM.finditer(text)]
    if len(starts) != 1:
        return None
    start = starts[0]
    while start > 0 and text[start - 1] in CURRENCY_SIGNS:
        start -= 1
    if start > 0 and text[start - 1] in "-+" and (start == 1 or not re.match(r"[\w)\]]", text[start - 2])):
        start -= 1
    if _NOT_PLAIN.search(text[:start]) or (
        text[start] in CURRENCY_SIGNS and text[start - 1 : start].isalpha()
    ):
        return None
    return _whole_quantity(text[start:], like)


def _value(match: re.Match[str]) -> Fraction | None:
    if len(match.group()) > MAX_DIGITS:
        return None
    signs = match.group("sign") + match.group("sign2")
    sign = -1 if signs.count("-") == 1 else 1
    if match.group("mixed"):
        top, bottom = match.group("mixed").split("/")
        return sign * (int(match.group("whole")) + Fraction(int(top), int(bottom))) if int(bottom) else None
    if match.group("top"):
        bottom_value = Fraction(match.group("bottom"))
        return sign * _decimal(match.group("top")) / bottom_value if bottom_value else None
    exponent = int(match.group("exp") or match.group("power") or 0)
    if abs(exponent) > MAX_EXPONENT:
        return None
    value = _decimal(match.group("number"))
    value = -value if sign < 0 else value
    return value * Fraction(10) ** exponent if exponent else value


def _decimal(digits: str) -> Fraction:
    if digits.isdecimal():
        return Fraction(int(digits))
    if _COMMA_DECIMAL.fullmatch(digits):
        digits = digits.replace(".", "").replace(",", ".")
    return Fraction(re.sub(r"[,_'\s]", "", digits).rstrip(".") or "0")


def _quantity(value: Fraction, name: str, like: str) -> Quantity:
    if not name:
        return Quantity(value=value, unit="")
    unit = read_unit(name.replace(" ", ""), like)
    percent = unit.dimension == "percent"
    return Quantity(
        value=value * unit.factor,
        unit="" if percent else unit.dimension,
        percent=percent,
        factor=unit.factor,
    )
