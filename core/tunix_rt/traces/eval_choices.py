"""`choices-eval@1`: questions with four choices, of which three are what usual mistakes give."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tunix_rt.traces.draws import Draws
from tunix_rt.traces.questions import EvalSet, Question, exact_text, number_type

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_LENGTHS = (
    ("metres", "centimetres", 100),
    ("kilometres", "metres", 1000),
    ("centimetres", "millimetres", 10),
)
_MASSES = (("kilograms", "grams", 1000), ("tonnes", "kilograms", 1000))
_CHOICES = 4


def _sum(draws: Draws, level: int) -> Question:
    high = (90, 900, 9000)[level]
    a, b = draws.between(high // 10, high), draws.between(high // 10, high)
    mistakes = [_by_digits(a, b, 1), a + b + 10, a + b - 10, a + b + 1, a + b - 1]
    return _number(draws, f"Calculate {a} + {b}.", a + b, mistakes, proved=sum((a, b)) - b == a)


def _difference(draws: Draws, level: int) -> Question:
    high = (90, 900, 9000)[level]
    a, b = draws.between(high // 2, high), draws.between(high // 10, high // 2 - 1)
    mistakes = [_by_digits(a, b, -1), a - b + 10, a - b - 10, a - b + 1, a + b]
    return _number(draws, f"Calculate {a} - {b}.", a - b, mistakes, proved=b + (a - b) == a)


def _product(draws: Draws, level: int) -> Question:
    a, b = draws.between(3, 9), draws.between(*((3, 9), (11, 49), (51, 199))[level])
    mistakes = [a * (b + 1), a * (b - 1), (a + 1) * b, a * b + 10, a + b]
    return _number(draws, f"Calculate {a} * {b}.", a * b, mistakes, proved=sum([b] * a) == a * b)


def _percentage(draws: Draws, level: int) -> Question:
    share = draws.choice(((10, 20, 50), (5, 25, 75), (15, 35, 45))[level])
    whole = 20 * draws.between(3, (20, 60, 200)[level])
    value = Fraction(share, 100) * whole
    mistakes: list[Fraction | int] = [
        value * 10,
        whole - share,
        value / 10,
        Fraction(whole, share),
        value + share,
    ]
    proved = value * 100 / whole == share
    return _number(draws, f"What is {share}% of {whole}?", value, mistakes, proved=proved)


def _converted(draws: Draws, level: int, units: Sequence[tuple[str, str, int]]) -> Question:
    large, small, factor = draws.choice(units)
    amount = Fraction(draws.between(2, (40, 400, 4000)[level]), (1, 10, 100)[level])
    value = amount * factor
    mistakes = [value / 10, value * 10, amount / factor, value * 100, value + factor]
    prompt = f"How many {small} are {exact_text(amount)} {large}?"
    return _number(draws, prompt, value, mistakes, proved=value / factor == amount)


def _length(draws: Draws, level: int) -> Question:
    return _converted(draws, level, _LENGTHS)


def _mass(draws: Draws, level: int) -> Question:
    return _converted(draws, level, _MASSES)


def _minutes(draws: Draws, level: int) -> Question:
    hours, minutes = draws.between(1, (4, 12, 40)[level]), draws.between(1, 59)
    value = 60 * hours + minutes
    mistakes = [100 * hours + minutes, 60 * hours, hours + minutes, value + 60, 60 * minutes + hours]
    proved = divmod(value, 60) == (hours, minutes)
    prompt = f"How many minutes are {hours} h {minutes} min?"
    return _number(draws, prompt, value, mistakes, proved=proved)


def _weekday(draws: Draws, level: int) -> Question:
    start, days = draws.between(0, 6), draws.between(*((2, 6), (8, 30), (40, 300))[level])
    place = start
    for _ in range(days):
        place = 0 if place == 6 else place + 1
    answer = _DAYS[(start + days) % 7]
    mistakes = [_DAYS[(place + shift) % 7] for shift in (1, 6, 2, 5)]
    prompt = f"Which day of the week is {days} days after {_DAYS[start]}?"
    return _question(draws, prompt, answer, "text", mistakes, proved=_DAYS[place] == answer)


def _divisible(draws: Draws, level: int) -> Question:
    divisor = draws.choice(((5, 10), (3, 4, 9), (6, 7, 11))[level])
    others: list[int] = []
    while len(others) < _CHOICES - 1:
        number = draws.between(20, (90, 300, 900)[level])
        if number % divisor and number not in others:
            others.append(number)
    answer = divisor * draws.between(-(-20 // divisor), (90, 300, 900)[level] // divisor)
    question = _number(draws, "", answer, others, proved=not answer - answer // divisor * divisor)
    shown = ", ".join(question.choices)
    prompt = f"Which of these numbers is divisible by {divisor}: {shown}?"
    return Question(prompt, question.answer, "integer", question.proved, choices=question.choices)


def _by_digits(a: int, b: int, sign: int) -> int:
    """Digit by digit without carry, or with the smaller digit from the larger one."""
    places = zip(str(a).zfill(5), str(b).zfill(5), strict=True)
    digits = ((int(x) + int(y)) % 10 if sign > 0 else abs(int(x) - int(y)) for x, y in places)
    return int("".join(map(str, digits)))


def _number(
    draws: Draws, prompt: str, value: Fraction | int, mistakes: Sequence[Fraction | int], *, proved: bool
) -> Question:
    exact = [Fraction(each) for each in mistakes]
    texts = [exact_text(each) for each in exact if each > 0 and _is_short(each)]
    answer = Fraction(value)
    return _question(draws, prompt, exact_text(answer), number_type(answer), texts, proved=proved)


def _question(
    draws: Draws, prompt: str, answer: str, answer_type: str, mistakes: Sequence[str], *, proved: bool
) -> Question:
    """A question with the first three different mistakes and the answer at a drawn place among them."""
    choices = [each for each in dict.fromkeys(mistakes) if each != answer][: _CHOICES - 1]
    assert len(choices) == _CHOICES - 1, prompt
    choices.insert(draws.between(0, 3 * _CHOICES - 1) // 3, answer)
    return Question(prompt, answer, answer_type, proved, choices=tuple(choices))


def _is_short(value: Fraction) -> bool:
    """Whether it has at most four decimal places."""
    return (value * 10_000).denominator == 1


CHOICES_EVAL = EvalSet(
    name="choices-eval@1",
    size=240,
    makers=(
        ("calculation", "addition", _sum),
        ("units", "length", _length),
        ("calculation", "multiplication", _product),
        ("time", "minutes", _minutes),
        ("parts", "percentage", _percentage),
        ("time", "weekday", _weekday),
        ("calculation", "subtraction", _difference),
        ("units", "mass", _mass),
        ("numbers", "divisibility", _divisible),
    ),
)
