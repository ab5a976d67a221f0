"""The readers of dates, words, units and expressions, each against something slow and obvious."""

import datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunix_rt.answers.dates import Date, parse_date
from tunix_rt.answers.expressions import same_expression, values_of
from tunix_rt.answers.numbers import parse_quantity
from tunix_rt.answers.units import read_unit
from tunix_rt.answers.words import with_digits

FORMATS = ("%Y-%m-%d", "%d %B %Y", "%B %d, %Y", "%A, %B %d, %Y", "%d %b %Y", "%d.%m.%Y", "%A %d %B %Y")


def test_every_day_of_a_leap_year_is_read_in_every_format() -> None:
    day = datetime.date(2024, 1, 1)
    while day.year == 2024:
        for form in FORMATS:
            assert parse_date(day.strftime(form)) == Date(day.year, day.month, day.day), day.strftime(form)
        day += datetime.timedelta(days=1)


def test_no_day_has_the_weekday_of_another() -> None:
    for offset in range(1, 7):
        weekday = (datetime.date(2024, 3, 4) + datetime.timedelta(days=offset)).strftime("%A")
        assert parse_date(f"{weekday}, March 4, 2024") is None


@given(st.integers(1, 12), st.integers(1, 31))
def test_day_and_month_are_told_apart_only_where_one_reading_is_real(first: int, second: int) -> None:
    readings = set()
    for month, day in ((first, second), (second, first)):
        try:
            readings.add(datetime.date(2024, month, day))
        except ValueError:
            continue
    read = parse_date(f"{first}/{second}/2024")
    if len(readings) == 1:
        (only,) = readings
        assert read == Date(2024, only.month, only.day)
    else:
        assert (read.order if read else None) == ("ambiguous" if readings else None)


ONES = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
ONES = f"{ONES} seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def test_every_number_below_a_thousand_is_read_from_its_words() -> None:
    small = ONES.split()
    for tens in TENS.split():
        small += [tens, *(f"{tens}-{one}" for one in ONES.split()[:9])]
    words = list(small)
    for hundreds in ONES.split()[:9]:
        words += [f"{hundreds} hundred", *(f"{hundreds} hundred and {rest}" for rest in small)]
    assert [with_digits(word) for word in words] == [str(number) for number in range(1, 1000)]


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("zero", "0"),
        ("a thousand", "1000"),
        ("two million", "2000000"),
        ("two million five hundred thousand and one", "2500001"),
        ("negative two", "-2"),
        ("five sixths", "5/6"),
        ("one third", "1/3"),
        ("three and a quarter", "13/4"),
        ("seven red apples", "7 red apples"),
        ("one of five", "one of five"),
        ("two or three", "two or three"),
        ("one one", "one one"),
        ("hundred hundred", "hundred hundred"),
        ("ten twenty", "ten twenty"),
        ("two third", "two third"),
        ("a dog", "a dog"),
        ("onerous", "onerous"),
        ("third", "third"),
        ("", ""),
    ],
)
def test_only_one_number_in_words_becomes_digits(text: str, digits: str) -> None:
    assert with_digits(text) == digits


@pytest.mark.parametrize(
    ("unit", "dimension", "factor"),
    [
        ("km", "length", "1000"),
        ("inches", "length", "0.0254"),
        ("ft^2", "length^2", "0.09290304"),
        ("acres", "length^2", "4046.8564224"),
        ("L", "length^3", "0.001"),
        ("km/h", "length time^-1", "5/18"),
        ("mph", "length time^-1", "0.44704"),
        ("m/s^2", "length time^-2", "1"),
        ("kg/m^3", "length^-3 mass", "1000"),
        ("$/h", "dollar time^-1", "1/3600"),
        ("lbs", "mass", "453.59237"),
        ("weeks", "time", "604800"),
        ("km/km", "", "1"),
        ("apples", "apple", "1"),
        ("apples/day", "apples/day", "1"),
        ("M", "m", "1"),
        ("of", "", "1"),
    ],
)
def test_a_unit_has_a_dimension_and_an_exact_factor(unit: str, dimension: str, factor: str) -> None:
    read = read_unit(unit)
    assert (read.dimension, read.factor) == (dimension, Fraction(factor))


@given(st.integers(1, 99), st.integers(0, 59), st.integers(0, 59))
def test_a_quantity_in_parts_is_their_sum(hours: int, minutes: int, seconds: int) -> None:
    read = parse_quantity(f"{hours} h {minutes} min {seconds} s")
    assert read is not None
    assert (read.value, read.unit) == (3600 * hours + 60 * minutes + seconds, "time")


@given(st.integers(0, 10**12), st.integers(0, 99))
def test_the_continental_form_of_money_is_the_same_amount(euros: int, cents: int) -> None:
    english = f"{euros:,}.{cents:02}"
    continental = english.translate(str.maketrans(",.", ".,"))
    read = parse_quantity(f"{continental} €")
    assert read is not None
    assert (read.value, read.unit) == (Fraction(100 * euros + cents, 100), "euro")


def nodes(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(children, st.sampled_from("+-*"), children)
    return pairs.map(lambda pair: f"({pair[0]} {pair[1]} {pair[2]})") | children.map(
        lambda base: f"({base})**2"
    )


POLYNOMIALS = st.recursive(st.sampled_from(["x", "y", "1", "2", "7"]), nodes, max_leaves=6)
GRID = [(Fraction(x), Fraction(y)) for x in range(-7, 8) for y in range(-7, 8)]


@given(POLYNOMIALS, POLYNOMIALS)
def test_polynomials_are_equal_if_their_values_are(left: str, right: str) -> None:
    def at(text: str) -> list[object]:
        return [eval(text, {"x": x, "y": y}) for x, y in GRID]

    if max(len(left), len(right)) < 60 and left.count("**2") + right.count("**2") <= 3:
        assert same_expression(left, right) is (at(left) == at(right))


@given(st.text(alphabet="xy12+-*/^(){}[] .\\frac", max_size=30))
def test_no_text_makes_the_reading_of_expressions_fail(text: str) -> None:
    values = values_of(text)
    assert values is None or values == values_of(f"({text.strip().rstrip('.')}) + 0")


@pytest.mark.parametrize(
    "text", ["(" * 200 + "x" + ")" * 200, "x" * 301, "2 3", "x^y", "x^(1/2)", "x +", ")x("]
)
def test_what_is_no_simple_expression_has_no_value(text: str) -> None:
    assert values_of(text) is None
