"""`units-eval@1`: lengths, masses, volumes, times, money and speeds.

The unit of the answer stands in the question, and the answer is a bare number: so a quantity that is
copied in its own unit is not the answer.
"""

from __future__ import annotations

from fractions import Fraction

from tunix_rt.traces.draws import Draws
from tunix_rt.traces.questions import EvalSet, Maker, Question, exact_text, number_type

Unit = tuple[str, int]  # the plural name, and how many of the smallest unit of its table it has

_LENGTH: tuple[Unit, ...] = (
    ("millimetres", 1), ("centimetres", 10), ("metres", 1_000), ("kilometres", 1_000_000)
)  # fmt: skip
_MASS: tuple[Unit, ...] = (("milligrams", 1), ("grams", 1_000), ("kilograms", 1_000_000))
_VOLUME: tuple[Unit, ...] = (("millilitres", 1), ("centilitres", 10), ("litres", 1_000))
_TIME: tuple[Unit, ...] = (("seconds", 1), ("minutes", 60), ("hours", 3_600), ("days", 86_400))


def _neighbours(draws: Draws, units: tuple[Unit, ...]) -> tuple[Unit, Unit]:
    """A unit and the next larger one."""
    place = draws.between(0, len(units) - 2)
    return units[place], units[place + 1]


def _to_smaller(units: tuple[Unit, ...]) -> Maker:
    def maker(draws: Draws, level: int) -> Question:
        (small, low), (large, high) = _neighbours(draws, units)
        parts = (1, 2, 4)[level] if units is _TIME else (1, 2, 10)[level]
        amount = Fraction(draws.between(2, (12, 30, 90)[level] * parts), parts)
        value = amount * high / low
        proved = value * low == amount * high
        return Question(
            f"How many {small} are {exact_text(amount)} {large}? Give only the number.",
            exact_text(value),
            number_type(value),
            proved=proved,
        )

    return maker


def _to_larger(units: tuple[Unit, ...]) -> Maker:
    def maker(draws: Draws, level: int) -> Question:
        (small, low), (large, high) = _neighbours(draws, units)
        factor = high // low
        step = factor // (1, 2, 4)[level] if factor in (24, 60) else factor // (1, 2, 10)[level]
        amount = draws.between(2, (12, 30, 90)[level]) * step
        value = Fraction(amount, factor)
        proved = value * high == amount * low
        return Question(
            f"How many {large} are {amount} {small}? Give only the number.",
            exact_text(value),
            number_type(value),
            proved=proved,
        )

    return maker


def _rope(draws: Draws, level: int) -> Question:
    metres, cut = draws.between(2, (5, 15, 60)[level]), draws.between(5, 95)
    value = metres * 100 - cut
    return Question(
        f"A rope is {metres} metres long. A piece of {cut} centimetres is cut off. "
        "How many centimetres are left?",
        str(value),
        "integer",
        proved=Fraction(value + cut, 100) == metres,
    )


def _mixed_sum(draws: Draws, level: int) -> Question:
    kilograms, grams = draws.between(1, (5, 20, 80)[level]), draws.between(1, 19) * 50
    more = draws.between(1, (9, 19, 39)[level]) * 50
    value = kilograms * 1000 + grams + more
    return Question(
        f"A parcel weighs {kilograms} kg {grams} g, another one {more} g. "
        "How many grams do they weigh together?",
        str(value),
        "integer",
        proved=Fraction(value - more, 1000) == kilograms + Fraction(grams, 1000),
    )


def _glasses(draws: Draws, level: int) -> Question:
    glass = draws.choice((100, 125, 200, 250))
    count = draws.between(2, (8, 20, 60)[level]) * (1000 // glass)
    litres = Fraction(count * glass, 1000)
    return Question(
        f"How many glasses of {glass} millilitres can be filled from {exact_text(litres)} litres?",
        str(count),
        "integer",
        proved=litres * 1000 / glass == count,
    )


def _clock(draws: Draws, level: int) -> Question:
    start, minutes = draws.between(6 * 60, 18 * 60), draws.between(2, (10, 20, 28)[level]) * 10 + 5
    end = start + minutes
    shown = [f"{time // 60}:{time % 60:02}" for time in (start, end)]
    hours, rest = end // 60 - start // 60, end % 60 - start % 60
    return Question(
        f"A train leaves at {shown[0]} and arrives at {shown[1]} on the same day. How many minutes does "
        "it take?",
        str(minutes),
        "integer",
        proved=hours * 60 + rest == minutes and end < 24 * 60,
    )


def _longer(draws: Draws, level: int) -> Question:
    tables = (_LENGTH, _MASS, _VOLUME, _TIME)
    (small, low), (large, high) = _neighbours(draws, draws.choice(tables))
    factor, amount = high // low, draws.between(2, (9, 20, 50)[level])
    other = amount * factor + draws.choice((-1, 1)) * draws.between(1, max(1, factor // 2))
    more = Fraction(other * low, high) > amount
    return Question(
        f"Are {other} {small} more than {amount} {large}? Answer yes or no.",
        "yes" if more else "no",
        "boolean",
        proved=(other * low > amount * high) is more,
    )


def _total_price(draws: Draws, level: int) -> Question:
    cents, count = draws.between(3, (40, 99, 400)[level]) * 5, draws.between(2, (6, 12, 24)[level])
    value = Fraction(cents * count, 100)
    return Question(
        f"One ticket costs ${cents // 100}.{cents % 100:02}. How many dollars do {count} tickets cost? "
        "Give only the number.",
        exact_text(value),
        number_type(value),
        proved=sum([Fraction(cents, 100)] * count, Fraction(0)) == value,
    )


def _change(draws: Draws, level: int) -> Question:
    paid = (10, 20, 50)[level]
    cents = draws.between(1, paid * 20 - 1) * 5
    value = paid - Fraction(cents, 100)
    return Question(
        f"A book costs €{cents // 100}.{cents % 100:02}. You pay with a note of {paid} euros. "
        "How many euros do you get back? Give only the number.",
        exact_text(value),
        number_type(value),
        proved=value + Fraction(cents, 100) == paid and value > 0,
    )


def _distance(draws: Draws, level: int) -> Question:
    speed, quarters = draws.between(2, (8, 12, 30)[level]) * 4, draws.between(2, (6, 12, 20)[level])
    value = Fraction(speed * quarters, 4)
    return Question(
        f"A train moves at {speed} kilometres an hour for {quarters * 15} minutes. "
        "How many kilometres does it go? Give only the number.",
        exact_text(value),
        number_type(value),
        proved=value / Fraction(quarters * 15, 60) == speed,
    )


def _area(draws: Draws, level: int) -> Question:
    metres, centimetres = draws.between(2, (6, 12, 40)[level]), draws.between(2, (9, 15, 40)[level]) * 50
    value = metres * Fraction(centimetres, 100)
    return Question(
        f"A strip is {metres} metres long and {centimetres} centimetres wide. "
        "What is its area in square metres? Give only the number.",
        exact_text(value),
        number_type(value),
        proved=value * 10_000 == metres * 100 * centimetres,
    )


UNITS_EVAL = EvalSet(
    name="units-eval@1",
    size=240,
    makers=(
        ("length", "to a smaller unit", _to_smaller(_LENGTH)),
        ("length", "to a larger unit", _to_larger(_LENGTH)),
        ("length", "story", _rope),
        ("mass", "to a smaller unit", _to_smaller(_MASS)),
        ("mass", "to a larger unit", _to_larger(_MASS)),
        ("mass", "story", _mixed_sum),
        ("volume", "to a smaller unit", _to_smaller(_VOLUME)),
        ("volume", "to a larger unit", _to_larger(_VOLUME)),
        ("volume", "story", _glasses),
        ("time", "to a smaller unit", _to_smaller(_TIME)),
        ("time", "to a larger unit", _to_larger(_TIME)),
        ("time", "story", _clock),
        ("money", "total", _total_price),
        ("money", "change", _change),
        ("compound", "distance", _distance),
        ("compound", "area", _area),
        ("comparison", "larger quantity", _longer),
    ),
)
