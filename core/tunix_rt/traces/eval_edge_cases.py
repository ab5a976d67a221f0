"""`edge-cases-eval@1`: easy questions at the edges, where a careless method fails."""

from __future__ import annotations

from fractions import Fraction

from tunix_rt.traces.draws import Draws
from tunix_rt.traces.questions import EvalSet, Question, exact_text, number_type

_WORD_LIST = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_WORDS = tuple(_WORD_LIST.split())
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_THINGS = ("apples", "books", "coins", "eggs", "marbles", "shells", "stamps", "tickets")


def _number(draws: Draws, level: int) -> int:
    return draws.between(*((11, 99), (100, 999), (1_000, 99_999))[level])


def _whole(prompt: str, value: int, *, proved: bool) -> Question:
    return Question(prompt, str(value), "integer", proved=proved)


def _times_zero(draws: Draws, level: int) -> Question:
    a, b = _number(draws, level), _number(draws, level)
    return _whole(f"Calculate {b} + {a} * 0.", b, proved=sum([0] * a) + b == b)


def _cancelled(draws: Draws, level: int) -> Question:
    a, b = _number(draws, level), _number(draws, level)
    return _whole(f"Calculate {a} + {b} - {a}.", b, proved=(a + b) - a == b)


def _below_zero(draws: Draws, level: int) -> Question:
    a = _number(draws, level)
    b = a + draws.between(1, a)
    return _whole(f"What is {a} - {b}?", a - b, proved=-(b - a) == a - b and a < b)


def _double_negative(draws: Draws, level: int) -> Question:
    a, b = _number(draws, level), _number(draws, level)
    return _whole(f"What is -{a} - (-{b})?", b - a, proved=-a == (b - a) - b)


def _negative_product(draws: Draws, level: int) -> Question:
    a, b = draws.between(2, (9, 15, 40)[level]), draws.between(2, 12)
    signs = draws.between(0, 2)
    left, right = (-a if signs != 1 else a), (-b if signs != 0 else b)
    proved = abs(left * right) == sum([a] * b) and (left * right > 0) is (signs == 2)
    return _whole(f"What is ({left}) * ({right})?", left * right, proved=proved)


def _large(draws: Draws, level: int) -> Question:
    digits = (6, 9, 12)[level]
    a, b = (draws.between(10 ** (digits - 1), 10**digits - 1) for _ in range(2))
    return _whole(f"What is {a} + {b}?", a + b, proved=(a + b) - b == a)


def _separators(draws: Draws, level: int) -> Question:
    a, b = (draws.between(1_000, 10 ** (4 + level * 2)) for _ in range(2))
    return _whole(f"What is {a:,} + {b:,}?", a + b, proved=(a + b) - b == a)


def _carries(draws: Draws, level: int) -> Question:
    nines, more = int("9" * (2 + level * 2)), draws.between(1, 40)
    return _whole(f"Add {more} to {nines}.", nines + more, proved=nines + 1 + (more - 1) == nines + more)


def _small_decimals(draws: Draws, level: int) -> Question:
    scale = (10, 100, 1000)[level]
    a, b = (Fraction(draws.between(1, scale - 1), scale) for _ in range(2))
    value = a + b
    return Question(
        f"What is {exact_text(a)} + {exact_text(b)}?",
        exact_text(value),
        number_type(value),
        proved=value - a == b,
    )


def _different_places(draws: Draws, level: int) -> Question:
    low = draws.between(1, 8)
    shorter = Fraction(low + 1, 10)
    longer = Fraction(
        low * 10 ** (1 + level) + draws.between(10**level, 10 ** (1 + level) - 1), 10 ** (2 + level)
    )
    first, second = (shorter, longer) if draws.between(0, 1) else (longer, shorter)
    return Question(
        f"Which number is larger, {exact_text(first)} or {exact_text(second)}? Answer with the number.",
        exact_text(shorter),
        "decimal",
        proved=max(first, second) == shorter and first != second,
    )


def _fence_posts(draws: Draws, level: int) -> Question:
    gaps, metres = draws.between(3, (12, 40, 120)[level]), draws.between(2, 9)
    return _whole(
        f"A straight fence is {gaps * metres} metres long and has a post every {metres} metres, also at both "
        "ends. How many posts has it?",
        gaps + 1,
        proved=len(range(0, gaps * metres + 1, metres)) == gaps + 1,
    )


def _both_ends(draws: Draws, level: int) -> Question:
    first = _number(draws, level)
    last = first + draws.between(3, (20, 80, 400)[level])
    return _whole(
        f"How many whole numbers are there from {first} to {last}, both included?",
        last - first + 1,
        proved=sum(1 for _ in range(first, last + 1)) == last - first + 1,
    )


def _irrelevant(draws: Draws, level: int) -> Question:
    kept, other = draws.two(_THINGS)
    a, b, c = _number(draws, level), _number(draws, level), _number(draws, level)
    return _whole(
        f"A shelf holds {a} {kept} and {c} {other}. Then {b} more {kept} are put there. "
        f"How many {kept} does it hold?",
        a + b,
        proved=(a + b) - a == b,
    )


def _in_words(draws: Draws, level: int) -> Question:
    a, b = (draws.between(0, (19, 59, 99)[level]) for _ in range(2))
    return _whole(
        f"What is {_spelt(a)} plus {_spelt(b)}? Write it in digits.", a + b, proved=(a + b) - b == a
    )


def _symbols(draws: Draws, level: int) -> Question:
    a, b, c = draws.between(2, (9, 30, 99)[level]), draws.between(2, 12), draws.between(2, 12)
    value = a - b * c
    return _whole(f"Calculate {a * c} ÷ {c} \u2212 {b} × {c}.", value, proved=a * c // c == value + b * c)


def _power(draws: Draws, level: int) -> Question:
    low, high = ((2, 12), (13, 40), (41, 99))[level]
    base, exponent = draws.between(low, high), draws.between(2, (3, 3, 2)[level])
    value = base**exponent
    proved = value == (base * base if exponent == 2 else base * base * base)
    return _whole(f"What is {base} to the power of {exponent}?", value, proved=proved)


def _spelt(number: int) -> str:
    if number < len(_WORDS):
        return _WORDS[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens - 2] + (f"-{_WORDS[ones]}" if ones else "")


EDGE_CASES_EVAL = EvalSet(
    name="edge-cases-eval@1",
    size=240,
    makers=(
        ("zero", "times zero", _times_zero),
        ("zero", "cancelled", _cancelled),
        ("signs", "below zero", _below_zero),
        ("signs", "double negative", _double_negative),
        ("signs", "product", _negative_product),
        ("size", "large numbers", _large),
        ("size", "separators", _separators),
        ("size", "carries", _carries),
        ("decimals", "small", _small_decimals),
        ("decimals", "different places", _different_places),
        ("counting", "fence posts", _fence_posts),
        ("counting", "both ends", _both_ends),
        ("wording", "irrelevant number", _irrelevant),
        ("wording", "numbers in words", _in_words),
        ("wording", "symbols", _symbols),
        ("wording", "power", _power),
    ),
)
