"""Numbers as people write them: exact values with units."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 400  # a longer number in a text is noise, and big powers of ten would cost time
MAX_EXPONENT = 400

_WORD_LIST = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_WORDS = {word: value for value, word in enumerate(_WORD_LIST.split())}
_UNITS: dict[str, tuple[str, Fraction]] = {}
for _dimension, _table in {
    "length": "mm millimeter millimetre:1/1000 cm centimeter centimetre:1/100 m meter metre:1 "
    "km kilometer kilometre:1000",
    "mass": "mg milligram:1/1000 g gram:1 kg kilogram kilo:1000",
    "time": "s sec second:1 min minute:60 h hr hour:3600 day:86400",
    "volume": "ml milliliter millilitre:1/1000 l liter litre:1",
    "dollar": "$ usd dollar:1 cent ¢:1/100",
    "euro": "€ eur euro:1",
    "pound": "£ gbp:1",
    "angle": "° degree deg:1",
    "percent": "% percent pct:1/100",
}.items():
    for _group in re.findall(r"[^:]+:\S+", _table):
        _names, _factor = _group.rsplit(":", 1)
        for _name in _names.split():
            _UNITS[_name] = (_dimension, Fraction(_factor))

_CORE = r"(?:\d{1,3}(?:[,_'\u2009\u202f\u00a0 ]\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*(?P<currency>[$€£]?)\s*(?P<sign2>[-+]?)"
    rf"(?:(?P<whole>\d+)\s+(?P<mixed>\d+/\d+)|(?P<top>{_CORE})\s*/\s*(?P<bottom>\d+(?:\.\d+)?)"
    rf"|(?P<number>{_CORE})(?:[eE](?P<exp>[-+]?\d+)|\s*[×x*·]\s*10\^\{{?(?P<power>[-+]?\d+)\}}?)?)"
)
_UNIT = re.compile(r"\s*(?P<unit>%|°|[^\W\d_]+(?:[/^]\s*[^\W\d_]*\d*)*|¢|\$|€|£)?(?P<rest>.*)", re.DOTALL)
_PREFIX = re.compile(r"^(?:[A-Za-z]\w*|[A-Za-z]\([A-Za-z]\))\s*[=≈]\s*(?=[^=])")
_TERM = re.compile(r"(?<![\w.])(?:\d[\d,_.]*(?:/\d+)?|\.\d+)")


@dataclass(frozen=True)
class Quantity:
    """An exact value, in base units where the unit is known; `unit` is its dimension or its own name."""

    value: Fraction
    unit: str
    percent: bool = False


def plain_text(text: str) -> str:
    """The text with one form for minus signs, fractions, exponents, widths and simple LaTeX."""
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
    text = re.sub(r"\\([%$#&])", r"\1", text)
    text = re.sub(r"\s+", " ", text).strip()
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] == "$" else text


def parse_quantity(text: str) -> Quantity | None:
    """Reads the one number that a short text states, or None when it states none or several.

    Accepts thousands separators, fractions, mixed numbers, percents, exponents, currency, a unit, number
    words, `x = 5` and, of a calculation `17 + 25 = 42`, the right-hand side. "not 5" states nothing.
    """
    text = plain_text(text).lstrip(" *").rstrip(" .!;,*")
    if not text or re.search(r"\b(?:not|no|never|isn't|neither)\b", text, re.IGNORECASE):
        return None
    if text.casefold() in _WORDS:
        return Quantity(value=Fraction(_WORDS[text.casefold()]), unit="")
    text = _PREFIX.sub("", text)
    whole = _whole_quantity(text)
    if whole is not None:
        return whole
    if "=" in text:
        return _whole_quantity(text.rsplit("=", 1)[1].strip())
    return _only_number(text)


def _whole_quantity(text: str) -> Quantity | None:
    """The quantity that a text is from its first to its last character, a few trailing words aside."""
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    match = _NUMBER.match(text)
    if match is None:
        return None
    value = _value(match)
    tail = _UNIT.fullmatch(text[match.end() :])
    if value is None or tail is None:
        return None
    rest = tail.group("rest").strip(" .!")
    if rest and (re.search(r"[\d=+*/<>^-]", rest) or not re.match(r"[\w(,]", rest)):
        return None
    return _quantity(value, tail.group("unit") or match.group("currency") or "")


def _only_number(text: str) -> Quantity | None:
    """The number of a sentence that has exactly one, its unit being the word that follows."""
    starts = [match.start() for match in _TERM.finditer(text)]
    if len(starts) != 1:
        return None
    start = starts[0]
    while start > 0 and text[start - 1] in "$€£":
        start -= 1
    if start > 0 and text[start - 1] in "-+" and (start == 1 or not re.match(r"[\w)\]]", text[start - 2])):
        start -= 1
    if re.search(r"[=+*/×<>]|\d-", text[:start]):
        return None
    return _whole_quantity(text[start:])


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
    return sign * _decimal(match.group("number")) * Fraction(10) ** exponent


def _decimal(digits: str) -> Fraction:
    return Fraction(re.sub(r"[,_'\s]", "", digits).rstrip(".") or "0")


def _quantity(value: Fraction, unit: str) -> Quantity:
    name = unit if unit in _UNITS else unit.casefold()
    for candidate in (name, name.removesuffix("s"), name.removesuffix("es")):
        if candidate in _UNITS:
            dimension, factor = _UNITS[candidate]
            return Quantity(
                value=value * factor,
                unit="" if dimension == "percent" else dimension,
                percent=dimension == "percent",
            )
    return Quantity(value=value, unit=name.removesuffix("s") if len(name) > 2 else name)
