"""`multistep-eval@1`: stories whose answer takes two to five steps, with the steps."""

from __future__ import annotations

from tunix_rt.traces.draws import Draws
from tunix_rt.traces.questions import EvalSet, Question

_NAMES = ("Amir", "Bea", "Carlo", "Dora", "Emil", "Fatima", "Goran", "Hedda", "Ines", "Jonas")
_GOODS = ("pens", "mugs", "kites", "candles", "puzzles", "lamps", "brushes", "bowls")


def _question(prompt: str, value: int, expression: str) -> Question:
    """The question; its steps and the second computation come from the expression."""
    return Question(prompt, str(value), "integer", proved=True, expression=expression)


def _shopping(draws: Draws, level: int) -> Question:
    name, (first, second) = draws.choice(_NAMES), draws.two(_GOODS)
    a, c = draws.between(2, (5, 9, 20)[level]), draws.between(2, (5, 9, 20)[level])
    b, d = draws.between(2, (9, 15, 30)[level]), draws.between(2, (9, 15, 30)[level])
    spent = a * b + c * d
    note = (spent // 50 + 1) * 50
    return _question(
        f"{name} buys {a} {first} at ${b} each and {c} {second} at ${d} each, and pays with ${note}. "
        "How many dollars of change are due?",
        note - spent,
        f"{note} - ( {a} * {b} + {c} * {d} )",
    )


def _journey(draws: Draws, level: int) -> Question:
    name = draws.choice(_NAMES)
    a, b = draws.between(20, (60, 150, 400)[level]), draws.between(2, (4, 7, 12)[level])
    c, left = draws.between(5, 19 + 40 * level), draws.between(3, (40, 200, 900)[level])
    total = a * b + c + left
    return _question(
        f"{name} plans a journey of {total} km, rides {a} km a day for {b} days and then {c} km on one more "
        "day. How many kilometres are left?",
        left,
        f"{total} - {a} * {b} - {c}",
    )


def _savings(draws: Draws, level: int) -> Question:
    name = draws.choice(_NAMES)
    a, b = draws.between(3, (9, 25, 80)[level]), draws.between(3, (6, 12, 24)[level])
    start = draws.between(5, (30, 90, 400)[level])
    spent = draws.between(2, start + a * b - 2)
    return _question(
        f"{name} has ${start}, saves ${a} a week for {b} weeks and then spends ${spent}. "
        "How many dollars remain?",
        start + a * b - spent,
        f"{start} + {a} * {b} - {spent}",
    )


def _hall(draws: Draws, level: int) -> Question:
    rows, seats = draws.between(4, (8, 15, 40)[level]), draws.between(4, (9, 20, 40)[level])
    taken, more = draws.between(1, rows * seats // 2), draws.between(1, rows * seats // 3)
    return _question(
        f"A hall has {rows} rows of {seats} seats. {taken} people sit there, and {more} more come in and "
        "sit down. How many seats are free?",
        rows * seats - taken - more,
        f"{rows} * {seats} - {taken} - {more}",
    )


def _bakery(draws: Draws, level: int) -> Question:
    trays, rolls = draws.between(3, (6, 10, 25)[level]), draws.between(8, (12, 24, 40)[level])
    size = draws.between(3, (6, 8, 12)[level])
    boxes = draws.between(1, trays * rolls // size - 1)
    sold = trays * rolls - boxes * size
    return _question(
        f"A bakery bakes {trays} trays of {rolls} rolls, sells {sold} rolls and packs the rest into boxes "
        f"of {size}. How many boxes does it fill?",
        boxes,
        f"( {trays} * {rolls} - {sold} ) / {size}",
    )


def _ages(draws: Draws, level: int) -> Question:
    old, middle = draws.two(_NAMES)
    young = next(name for name in _NAMES if name not in (old, middle))
    age, times = draws.between(2, (6, 9, 14)[level]), draws.between(2, (3, 4, 5)[level])
    older = draws.between(2, 9 + 6 * level)
    total = age + age * times + age * times + older
    return _question(
        f"{young} is {age} years old. {middle} is {times} times as old, and {old} is {older} years older "
        f"than {middle}. How old are all three together?",
        total,
        f"{age} + {age} * {times} + ( {age} * {times} + {older} )",
    )


def _reading(draws: Draws, level: int) -> Question:
    name = draws.choice(_NAMES)
    a, b = draws.between(8, (20, 35, 60)[level]), draws.between(2, (5, 8, 14)[level])
    c, days = draws.between(6, (15, 30, 50)[level]), draws.between(2, (6, 12, 25)[level])
    pages = a * b + c * days
    return _question(
        f"{name} reads a book of {pages} pages: {a} pages a day for {b} days, then {c} pages a day. "
        "How many more days does it take after these?",
        days,
        f"( {pages} - {a} * {b} ) / {c}",
    )


def _fence(draws: Draws, level: int) -> Question:
    a, b = draws.between(4, (15, 40, 120)[level]), draws.between(4, (15, 40, 120)[level])
    gate, price = draws.between(1, 4), draws.between(2, (5, 9, 25)[level])
    metres = 2 * (a + b) - gate
    return _question(
        f"A garden of {a} m by {b} m gets a fence on all sides, except for a gate of {gate} m. One metre of "
        f"fence costs ${price}. How many dollars does the fence cost?",
        metres * price,
        f"( 2 * ( {a} + {b} ) - {gate} ) * {price}",
    )


def _temperature(draws: Draws, level: int) -> Question:
    start, rise = draws.between(1, (9, 15, 30)[level]), draws.between(2, (8, 12, 25)[level])
    fall, hours = draws.between(2, (5, 9, 12)[level]), draws.between(2, (4, 5, 6)[level])
    return _question(
        f"It is {start} degrees. The temperature rises by {rise} degrees and then falls by {fall} degrees an "
        f"hour for {hours} hours. What is the temperature now, in degrees?",
        start + rise - fall * hours,
        f"{start} + {rise} - {fall} * {hours}",
    )


def _teams(draws: Draws, level: int) -> Question:
    teams, players = draws.between(3, (6, 12, 25)[level]), draws.between(4, (7, 11, 15)[level])
    share = draws.between(2, (5, 12, 30)[level])
    bottles = draws.between(teams * players * share // 2, teams * players * share - 1)
    return _question(
        f"{teams} teams of {players} players come to a tournament. Every player is to have {share} bottles "
        f"of water, and there are {bottles}. How many bottles are missing?",
        teams * players * share - bottles,
        f"{teams} * {players} * {share} - {bottles}",
    )


MULTISTEP_EVAL = EvalSet(
    name="multistep-eval@1",
    size=240,
    makers=(
        ("money", "shopping", _shopping),
        ("money", "savings", _savings),
        ("money", "fence", _fence),
        ("distance", "journey", _journey),
        ("counting", "hall", _hall),
        ("counting", "bakery", _bakery),
        ("counting", "reading", _reading),
        ("counting", "teams", _teams),
        ("comparison", "ages", _ages),
        ("comparison", "temperature", _temperature),
    ),
)
