"""Units of measurement and currencies, with exact factors to the base unit of their dimension."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

# Names before each factor. International yard and pound of 1959; a gallon and its parts are not converted
# to litres, a month not to days and a ton not to kilograms, because these differ from place to place.
# Temperatures are not converted: from a difference of degrees nobody can tell.
_TABLE = {
    "length": "nm nanometer nanometre:1/1000000000 µm um micrometer micrometre micron:1/1000000 "
    "mm millimeter millimetre:1/1000 cm centimeter centimetre:1/100 dm decimeter decimetre:1/10 "
    "m meter metre:1 km kilometer kilometre:1000 in inch inche:0.0254 ft foot feet:0.3048 yd yard:0.9144 "
    "mi mile:1609.344",
    "mass": "µg microgram:1/1000000 mg milligram:1/1000 g gram gramme:1 kg kilogram kilo:1000 "
    "t tonne:1000000 lb:453.59237 oz ounce:28.349523125",
    "time": "ms millisecond:1/1000 s sec second:1 min minute:60 h hr hour:3600 d day:86400 wk week:604800",
    "month": "month mo:1 year yr:12 decade:120 century centurie:1200",
    "gallon": "gallon gal:1 quart qt:1/4 pint pt:1/8 cup:1/16 tablespoon tbsp:1/256 teaspoon tsp:1/768",
    "celsius": "celsius centigrade C:1",
    "fahrenheit": "fahrenheit F:1",
    "kelvin": "kelvin K:1",
    "radian": "radian rad:1",
    "dollar": "$ usd dollar buck:1 ¢:1/100",
    "euro": "€ eur euro:1",
    "sterling": "£ gbp:1 pence:1/100",
    "yen": "¥ jpy yen:1",
    "rupee": "₹ inr rupee:1",
    "percent": "% percent pct:1/100",
}
# Powers of other dimensions, and names that mean different things: the first meaning unless another fits.
_DERIVED = {
    "length^3": "ml milliliter millilitre cc:1/1000000 cl centiliter centilitre:1/100000 "
    "dl deciliter decilitre:1/10000 l L liter litre:1/1000",
    "length^2": "ha hectare:10000 acre:4046.8564224",
    "length time^-1": "kph kmh kmph:1000/3600 mph:1609.344/3600",
}
_AMBIGUOUS = {
    "cent": (("dollar", Fraction(1, 100)), ("euro", Fraction(1, 100))),
    "penny": (("dollar", Fraction(1, 100)), ("sterling", Fraction(1, 100))),
    "pennie": (("dollar", Fraction(1, 100)), ("sterling", Fraction(1, 100))),
    "pound": (("mass", Fraction("453.59237")), ("sterling", Fraction(1))),
    "°": (("angle", Fraction(1)), ("celsius", Fraction(1)), ("fahrenheit", Fraction(1))),
    "degree": (("angle", Fraction(1)), ("celsius", Fraction(1)), ("fahrenheit", Fraction(1))),
    "deg": (("angle", Fraction(1)), ("celsius", Fraction(1)), ("fahrenheit", Fraction(1))),
}
CURRENCIES = frozenset({"dollar", "euro", "sterling", "yen", "rupee"})
CURRENCY_SIGNS = "$€£¥₹"
_SIGNS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "inr": "₹"}

# Words that follow a number without being its unit.
_NO_UNITS = frozenset(
    {
        *("of", "for", "and", "at", "on", "to", "is", "are", "each", "total", "with", "left", "more", "or"),
        *("altogether", "times", "as", "by", "from", "because", "since", "so", "which", "that", "remaining"),
    }
)
_PHRASES = re.compile(
    r"(?:°|\bdegrees?\b|\bdeg\b)\s*(?P<scale>celsius|fahrenheit|[CF]\b)"
    r"|\b(?:square|sq\b\.?)\s*(?P<square>[^\W\d_]+)|\b(?:cubic|cu\b\.?)\s*(?P<cube>[^\W\d_]+)"
    r"|\b(?P<area>(?:[kcdm]?m|ft|in|yd))(?P<power>[23])\b|\s*\bper\s+(?:an?\s+)?(?P<per>)|\bUS\s*(?P<us>(?=dollar|\$))"
    r"|\b(?P<code>usd|eur|gbp|jpy|inr)\s*(?=-?\.?\d)",
    re.IGNORECASE,
)
_FACTOR = re.compile(r"(?P<name>[^\W\d_]+|[%°¢$€£¥₹])(?:\^(?P<power>\d))?")


@dataclass(frozen=True)
class Unit:
    """A dimension and the factor to its base unit; an unknown unit is a dimension of its own."""

    dimension: str
    factor: Fraction


def _fraction(text: str) -> Fraction:
    top, _, bottom = text.partition("/")
    return Fraction(top) / Fraction(bottom or 1)


def _units(table: dict[str, str]) -> dict[str, Unit]:
    groups = (
        (dimension, group.rsplit(":", 1))
        for dimension, text in table.items()
        for group in re.findall(r"[^:]+:\S+", text)
    )
    return {
        name: Unit(dimension=dimension, factor=_fraction(factor))
        for dimension, (names, factor) in groups
        for name in names.split()
    }


_KNOWN = _units(_TABLE) | _units(_DERIVED)


def plain_units(text: str) -> str:
    """The text with one form for units of several words: `square metres` is `metres^2`, `per` is `/`."""
    return _PHRASES.sub(_plain_phrase, text)


@lru_cache(maxsize=4096)
def read_unit(text: str, like: str = "") -> Unit:
    """The unit that a text such as `km`, `$`, `m^2` or `km/h` names.

    `like` is the dimension that decides between the meanings of an ambiguous name: pounds are money
    beside £, and else a mass. The empty text, and a word that is no unit, give the dimension "".
    """
    if text.casefold() in _NO_UNITS:
        return Unit(dimension="", factor=Fraction(1))
    powers: Counter[str] = Counter()
    factor = Fraction(1)
    for position, part in enumerate(text.split("/")):
        match = _FACTOR.fullmatch(part.strip())
        unit = _simple_unit(match.group("name"), like) if match else None
        if match is None or unit is None:
            name = text.casefold()
            return Unit(dimension=name.removesuffix("s") if len(name) > 2 else name, factor=Fraction(1))
        power = int(match.group("power") or 1) * (-1 if position else 1)
        factor *= unit.factor**power
        for dimension in unit.dimension.split():
            base, _, exponent = dimension.partition("^")
            powers[base] += int(exponent or 1) * power
    shown = (base if power == 1 else f"{base}^{power}" for base, power in sorted(powers.items()) if power)
    return Unit(dimension=" ".join(shown), factor=factor)


def is_variable(text: str) -> bool:
    """Whether a text is a small letter that is no unit: `5x` is not 5."""
    return len(text) == 1 and text.islower() and text not in _KNOWN and text not in _AMBIGUOUS


def _simple_unit(name: str, like: str) -> Unit | None:
    folded = name if len(name) == 1 else name.casefold()  # M is not m
    for candidate in (name, folded, folded.removesuffix("s"), folded.removesuffix("es")):
        if candidate in _AMBIGUOUS:
            meanings = _AMBIGUOUS[candidate]
            dimension, factor = next((each for each in meanings if each[0] == like), meanings[0])
            return Unit(dimension=dimension, factor=factor)
        if candidate in _KNOWN:
            return _KNOWN[candidate]
    return None


def _plain_phrase(match: re.Match[str]) -> str:
    groups = match.groupdict()
    if groups["scale"]:
        return "celsius" if groups["scale"][0] in "cC" else "fahrenheit"
    if groups["square"] or groups["cube"]:
        return f"{groups['square']}^2" if groups["square"] else f"{groups['cube']}^3"
    if groups["area"]:
        return f"{groups['area']}^{groups['power']}"
    if groups["code"]:
        return _SIGNS[groups["code"].casefold()]
    return "/" if groups["per"] is not None else ""
