"""`arithmetic-eval@1`: whole numbers, decimals, fractions, percentages and divisibility."""

from __future__ import annotations

import math
from fractions import Fraction

from tunix_rt.traces.draws import Draws
from tunix_rt.traces.expressions import solve
from tunix_rt.traces.questions import EvalSet, Question, exact_text, number_type


def _whole(draws: Draws, level: int) -> int:
    low, high = ((2, 20), (20, 200), (200, 5000))[level]
    return draws.between(low, high)


def _addition(draws: Draws, level: int) -> Question:
    numbers = [_whole(draws, level) for _ in range(draws.between(2, 3))]
    expression, value = " + ".join(map(str, numbers)), sum(numbers)
    return Question(
        f"Calculate {expression}.", str(value), "integer", proved=solve(expression).value == value
    )


def _subtraction(draws: Draws, level: int) -> Question:
    a, b = _whole(draws, level), _whole(draws, level)
    return Question(f"What is {a} minus {b}?", str(a - b), "integer", proved=(a - b) + b == a)


def _multiplication(draws: Draws, level: int) -> Question:
    a, b = _whole(draws, level), draws.between(2, (9, 19, 99)[level])
    expression = f"{a} * {b}"
    return Question(f"What is {a} times {b}?", str(a * b), "integer", proved=solve(expression).value == a * b)


def _division(draws: Draws, level: int) -> Question:
    quotient, divisor = _whole(draws, level), draws.between(2, (9, 19, 49)[level])
    total = quotient * divisor
    return Question(
        f"Divide {total} by {divisor}.",
        str(quotient),
        "integer",
        proved=divmod(total, divisor) == (quotient, 0),
    )


def _precedence(draws: Draws, level: int) -> Question:
    a, b, c = _whole(draws, level), draws.between(2, 12), draws.between(2, 12)
    sign = draws.choice("+-")
    value = a + b * c if sign == "+" else a - b * c
    expression = f"{a} {sign} {b} * {c}"
    return Question(
        f"Calculate {expression}.", str(value), "integer", proved=solve(expression).value == value
    )


def _parentheses(draws: Draws, level: int) -> Question:
    a, b, c = _whole(draws, level), _whole(draws, level), draws.between(2, (5, 9, 15)[level])
    sign = draws.choice("+-")
    value = c * (a + b) if sign == "+" else c * (a - b)
    expression = f"{c} * ( {a} {sign} {b} )"
    shown = f"{c} * ({a} {sign} {b})"
    return Question(f"Calculate {shown}.", str(value), "integer", proved=solve(expression).value == value)


def _negative_numbers(draws: Draws, level: int) -> Question:
    a, b = -_whole(draws, level), -_whole(draws, level)
    if draws.between(0, 1):
        return Question(f"What is {a} + ({b})?", str(a + b), "integer", proved=-(-a - b) == a + b)
    return Question(f"What is {a} - ({b})?", str(a - b), "integer", proved=(a - b) + b == a)


def _remainder(draws: Draws, level: int) -> Question:
    a, b = _whole(draws, level) + 20, draws.between(3, (9, 19, 60)[level])
    value = a % b
    proved = 0 <= value < b and (a - value) // b * b + value == a
    return Question(f"What is the remainder of {a} divided by {b}?", str(value), "integer", proved=proved)


def _common_divisor(draws: Draws, level: int) -> Question:
    factor = draws.between(2, (9, 15, 30)[level])
    first, second = draws.two(range(2, 13))
    a, b = factor * first, factor * second
    value = math.gcd(a, b)
    proved = max(n for n in range(1, min(a, b) + 1) if a % n == 0 and b % n == 0) == value
    return Question(
        f"What is the greatest common divisor of {a} and {b}?", str(value), "integer", proved=proved
    )


def _common_multiple(draws: Draws, level: int) -> Question:
    a, b = draws.two(range(2, (10, 16, 31)[level]))
    value = math.lcm(a, b)
    proved = next(n for n in range(a, a * b + 1, a) if n % b == 0) == value
    return Question(
        f"What is the least common multiple of {a} and {b}?", str(value), "integer", proved=proved
    )


def _decimals(draws: Draws, level: int) -> Question:
    scale = (10, 100, 1000)[level]
    a, b = (Fraction(draws.between(1, 50 * scale), scale) for _ in range(2))
    if draws.between(0, 1):
        value, text = a + b, f"{exact_text(a)} + {exact_text(b)}"
        proved = value - b == a
    else:
        b = Fraction(draws.between(2, 9))
        value, text = a * b, f"{exact_text(a)} * {exact_text(b)}"
        proved = sum([a] * int(b), Fraction(0)) == value
    return Question(f"Calculate {text}.", exact_text(value), number_type(value), proved=proved)


def _fractions(draws: Draws, level: int) -> Question:
    most = (6, 10, 15)[level]
    a, b = (Fraction(draws.between(1, 9), draws.between(2, most)) for _ in range(2))
    sign = draws.choice("+-*")
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    top, bottom = a.denominator * b.denominator, b.numerator
    by_hand = {
        "+": Fraction(a.numerator * b.denominator + bottom * a.denominator, top),
        "-": Fraction(a.numerator * b.denominator - bottom * a.denominator, top),
        "*": Fraction(a.numerator * bottom, top),
    }[sign]
    kind = "integer" if value.denominator == 1 else "fraction"
    prompt = f"Calculate {a} {sign} {b}. Give the result as a fraction in lowest terms."
    return Question(prompt, str(value), kind, proved=by_hand == value)


def _percentage_of(draws: Draws, level: int) -> Question:
    share, base = draws.between(1, (9, 19, 39)[level]) * 5, draws.between(1, (10, 40, 200)[level]) * 20
    value = Fraction(share * base, 100)
    proved = value / base * 100 == share
    return Question(f"What is {share}% of {base}?", exact_text(value), number_type(value), proved=proved)


def _what_percentage(draws: Draws, level: int) -> Question:
    share = draws.between(1, 20) * (5, 5, 1)[level]
    base = draws.between(1, (5, 20, 90)[level]) * (20, 20, 100)[level]
    part = share * base // 100
    proved = Fraction(part, base) == Fraction(share, 100)
    return Question(
        f"What percentage of {base} is {part}? Give the answer with a percent sign.",
        f"{share}%",
        "percentage",
        proved=proved,
    )


def _comparison(draws: Draws, level: int) -> Question:
    most = (9, 20, 50)[level]
    a, b = (Fraction(draws.between(1, most), draws.between(2, most)) for _ in range(2))
    larger = a.numerator * b.denominator > b.numerator * a.denominator
    return Question(
        f"Is {a} greater than {b}? Answer yes or no.",
        "yes" if larger else "no",
        "boolean",
        proved=(a > b) is larger,
    )


def _prime(draws: Draws, level: int) -> Question:
    number = draws.between(*((4, 60), (60, 400), (400, 2000))[level])
    by_division = all(number % n for n in range(2, math.isqrt(number) + 1))
    proved = by_division is (sum(number % n == 0 for n in range(1, number + 1)) == 2)
    return Question(
        f"Is {number} a prime number? Answer yes or no.",
        "yes" if by_division else "no",
        "boolean",
        proved=proved,
    )


ARITHMETIC_EVAL = EvalSet(
    name="arithmetic-eval@1",
    size=240,
    makers=(
        ("whole numbers", "addition", _addition),
        ("whole numbers", "subtraction", _subtraction),
        ("whole numbers", "multiplication", _multiplication),
        ("whole numbers", "division", _division),
        ("expressions", "precedence", _precedence),
        ("expressions", "parentheses", _parentheses),
        ("expressions", "negative numbers", _negative_numbers),
        ("divisibility", "remainder", _remainder),
        ("divisibility", "common divisor", _common_divisor),
        ("divisibility", "common multiple", _common_multiple),
        ("divisibility", "prime", _prime),
        ("parts", "decimals", _decimals),
        ("parts", "fractions", _fractions),
        ("parts", "percentage of", _percentage_of),
        ("parts", "what percentage", _what_percentage),
        ("parts", "comparison", _comparison),
    ),
)
