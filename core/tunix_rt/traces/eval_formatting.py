"""`formatting-eval@1`: easy questions whose answers have a form: lists, sets, choices, words, numerals."""

from __future__ import annotations

import itertools
from fractions import Fraction

from tunix_rt.traces.draws import Draws
from tunix_rt.traces.questions import EvalSet, Question, exact_text, number_type

_WORD_LIST = (
    "anchor basket candle dolphin engine feather garden hammer island jacket kettle lantern magnet needle "
    "orange pencil quarry ribbon saddle turtle umbrella velvet window yellow zipper"
)
_WORDS = tuple(_WORD_LIST.split())
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTH_LIST = "January February March April May June July August September October November December"
_MONTHS = tuple(_MONTH_LIST.split())
_ROMAN = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
    (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip


def _different(draws: Draws, count: int, high: int) -> list[int]:
    numbers: list[int] = []
    while len(numbers) < count:
        number = draws.between(2, high)
        if number not in numbers:
            numbers.append(number)
    return numbers


def _some_words(draws: Draws, count: int) -> list[str]:
    return [_WORDS[place - 2] for place in _different(draws, count, len(_WORDS) + 1)]


def _shown(values: list[int] | list[str]) -> str:
    return ", ".join(map(str, values))


def _sorted_numbers(draws: Draws, level: int) -> Question:
    numbers = _different(draws, 3 + level, (20, 90, 900)[level])
    value = sorted(numbers)
    proved = all(a < b for a, b in itertools.pairwise(value)) and set(value) == set(numbers)
    return Question(
        f"Put these numbers in ascending order, separated by commas: {_shown(numbers)}.",
        _shown(value),
        "list",
        proved=proved,
    )


def _sorted_words(draws: Draws, level: int) -> Question:
    words = _some_words(draws, 3 + level)
    value = sorted(words)
    proved = all(a < b for a, b in itertools.pairwise(value)) and set(value) == set(words)
    return Question(
        f"Put these words in alphabetical order, separated by commas: {_shown(words)}.",
        _shown(value),
        "list",
        proved=proved,
    )


def _sequence(draws: Draws, level: int) -> Question:
    start, step = draws.between(1, (10, 40, 90)[level]), draws.between(2, (5, 12, 25)[level])
    shown = [start + step * i for i in range(4)]
    value = [start + step * i for i in range(4, 7)]
    proved = all(b - a == step for a, b in zip([*shown, *value], [*shown[1:], *value], strict=False))
    return Question(
        f"Continue with the next three numbers, separated by commas: {_shown(shown)}.",
        _shown(value),
        "list",
        proved=proved,
    )


def _factors(draws: Draws, level: int) -> Question:
    number = draws.between(*((4, 20), (20, 60), (60, 150))[level])
    value = [n for n in range(1, number + 1) if number % n == 0]
    pairs = {n for n in range(1, number + 1) for m in range(1, number + 1) if n * m == number}
    return Question(
        f"List all positive divisors of {number}, separated by commas, in any order.",
        _shown(value),
        "set",
        proved=set(value) == pairs,
    )


def _even(draws: Draws, level: int) -> Question:
    numbers = _different(draws, 4 + level, (30, 90, 900)[level])
    value = [number for number in numbers if number % 2 == 0]
    if not 0 < len(value) < len(numbers):
        return _even(draws, level)
    proved = {n for n in numbers if str(n)[-1] in "02468"} == set(value)
    return Question(
        f"Which of these numbers are even? Separate them by commas: {_shown(numbers)}.",
        _shown(value),
        "set",
        proved=proved,
    )


def _largest_choice(draws: Draws, level: int) -> Question:
    numbers = _different(draws, 4, (30, 300, 9000)[level])
    options = " ".join(f"({letter}) {number}" for letter, number in zip("ABCD", numbers, strict=True))
    place = numbers.index(max(numbers))
    proved = all(numbers[place] >= number for number in numbers)
    return Question(
        f"Which number is the largest? {options}. Answer with the letter.",
        "ABCD"[place],
        "choice",
        proved=proved,
        aliases=(str(numbers[place]),),
    )


def _sum_choice(draws: Draws, level: int) -> Question:
    a, b = _different(draws, 2, (20, 90, 900)[level])
    place = draws.between(0, 3)
    offsets = _different(draws, 4, 12)
    numbers = [a + b + offset for offset in offsets]
    numbers[place] = a + b
    options = " ".join(f"({letter}) {number}" for letter, number in zip("ABCD", numbers, strict=True))
    return Question(
        f"What is {a} + {b}? {options}. Answer with the letter.",
        "ABCD"[place],
        "choice",
        proved=numbers.count(a + b) == 1 and numbers[place] - b == a,
        aliases=(str(a + b),),
    )


def _contains(draws: Draws, level: int) -> Question:
    word, letter = draws.choice(_WORDS), draws.choice("aeinorst"[: 4 + 2 * level])
    there = letter in word
    return Question(
        f'Does the word "{word}" contain the letter "{letter}"? Answer yes or no.',
        "yes" if there else "no",
        "boolean",
        proved=(word.count(letter) > 0) is there,
    )


def _backwards(draws: Draws, level: int) -> Question:
    word = draws.choice(_WORDS)[: 3 + level]
    if word == word[::-1]:
        return _backwards(draws, level)
    value = "".join(word[-1 - i] for i in range(len(word)))
    return Question(f'Write the letters "{word}" backwards.', value, "text", proved=value[::-1] == word)


def _letter_count(draws: Draws, level: int) -> Question:
    words = _some_words(draws, 1 + level)
    letter = draws.choice(words[0])
    value = sum(word.count(letter) for word in words)
    quoted = " ".join(words)
    return Question(
        f'How many times does the letter "{letter}" occur in "{quoted}"?',
        str(value),
        "integer",
        proved=len(quoted) - len(quoted.replace(letter, "")) == value,
    )


def _rounding(draws: Draws, level: int) -> Question:
    places = draws.between(1, 1 + level)
    number = Fraction(draws.between(1000, 99_999), 10 ** (places + 2))
    cents = number * 10**places
    value = Fraction((2 * cents.numerator + cents.denominator) // (2 * cents.denominator), 10**places)
    if (number * 10 ** (places + 1)) % 10 == 5 or value == number:  # a tie is rounded in two ways
        return _rounding(draws, level)
    name = "decimal place" if places == 1 else "decimal places"
    return Question(
        f"Round {exact_text(number)} to {places} {name}.",
        exact_text(value),
        number_type(value),
        proved=abs(value - number) * 2 * 10**places < 1,
    )


def _to_roman(draws: Draws, level: int) -> Question:
    number = draws.between(*((2, 39), (40, 399), (400, 2999))[level])
    value = _roman(number)
    return Question(f"Write {number} as a Roman numeral.", value, "text", proved=_from_roman(value) == number)


def _of_roman(draws: Draws, level: int) -> Question:
    number = draws.between(*((2, 39), (40, 399), (400, 2999))[level])
    return Question(
        f"Which number is the Roman numeral {_roman(number)}? Write it in digits.",
        str(number),
        "integer",
        proved=_from_roman(_roman(number)) == number,
    )


def _binary(draws: Draws, level: int) -> Question:
    number = draws.between(*((2, 15), (16, 63), (64, 255))[level])
    value = f"{number:b}"
    proved = sum(2**i for i, digit in enumerate(reversed(value)) if digit == "1") == number
    return Question(f"Write {number} in binary.", value, "text", proved=proved, aliases=(f"0b{value}",))


def _weekday(draws: Draws, level: int) -> Question:
    today, days = draws.between(0, 6), draws.between(2, (6, 20, 99)[level])
    later = today
    for _ in range(days):
        later = 0 if later == 6 else later + 1
    value = (today + days) % 7
    return Question(
        f"Today is {_DAYS[today]}. Which day of the week is it in {days} days?",
        _DAYS[value],
        "text",
        proved=later == value,
    )


def _month(draws: Draws, level: int) -> Question:
    now, months = draws.between(0, 11), draws.between(2, (6, 20, 50)[level])
    later = now
    for _ in range(months):
        later = 0 if later == 11 else later + 1
    value = (now + months) % 12
    return Question(
        f"It is {_MONTHS[now]}. Which month is it {months} months later?",
        _MONTHS[value],
        "text",
        proved=later == value,
    )


def _roman(number: int) -> str:
    text = ""
    for value, letters in _ROMAN:
        text += letters * (number // value)
        number %= value
    return text


def _from_roman(text: str) -> int:
    worth = {letters: value for value, letters in _ROMAN}
    values = [worth[letter] for letter in text]
    following = [*values[1:], 0]
    return sum(-a if a < b else a for a, b in zip(values, following, strict=True))


FORMATTING_EVAL = EvalSet(
    name="formatting-eval@1",
    size=240,
    makers=(
        ("lists", "ascending numbers", _sorted_numbers),
        ("lists", "alphabetical words", _sorted_words),
        ("lists", "sequence", _sequence),
        ("sets", "divisors", _factors),
        ("sets", "even numbers", _even),
        ("choices", "largest", _largest_choice),
        ("choices", "sum", _sum_choice),
        ("words", "contains", _contains),
        ("words", "backwards", _backwards),
        ("words", "letter count", _letter_count),
        ("numerals", "rounding", _rounding),
        ("numerals", "to Roman", _to_roman),
        ("numerals", "from Roman", _of_roman),
        ("numerals", "binary", _binary),
        ("calendar", "weekday", _weekday),
        ("calendar", "month", _month),
    ),
)
