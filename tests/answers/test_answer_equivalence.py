from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunix_rt.answers.equivalence import ANSWER_TYPES, detect_type, equivalent
from tunix_rt.answers.extract import clean_answer

SAME = [
    # predicted, expected, type
    ("4", "4", ""),
    ("4.", "4", ""),
    ("4.0", "4", ""),
    ("+4", "4", ""),
    ("04", "4", ""),
    ("x = 4", "4", ""),
    ("x = 5.", "5", ""),
    ("17 + 25 = 42", "42", ""),
    ("It is 4", "4", ""),
    ("4 apples", "4", ""),
    ("4 apples in total", "4", ""),
    ("four", "4", ""),
    ("Seven", "7", ""),
    ("1,234", "1234", ""),
    ("1 234", "1234", ""),
    ("1\u202f234", "1234", ""),
    ("1_234", "1234", ""),
    ("1234", "1,234", ""),
    ("1,234,567.50", "1234567.5", ""),
    ("-5", "-5", ""),
    ("−5", "-5", ""),
    ("–5", "-5", ""),
    ("-5", "−5", ""),
    ("- 5", "-5", ""),
    ("-0", "0", ""),
    ("５", "5", ""),
    ("1e3", "1000", ""),
    ("1.5 × 10^3", "1500", ""),
    ("1.5\\times 10^{3}", "1500", ""),
    ("$5", "5", ""),
    ("$5", "$5.00", ""),
    ("5 dollars", "$5", ""),
    ("50 cents", "$0.50", ""),
    ("5 km", "5", ""),
    ("5", "5 km", ""),
    ("5 km", "5 km", ""),
    ("5km", "5 km", ""),
    ("5 kilometers", "5 km", ""),
    ("5000 m", "5 km", ""),
    ("2 hours", "120 minutes", ""),
    ("5 apples", "5 apples", ""),
    ("1 apple", "1 apples", ""),
    ("90°", "90 degrees", ""),
    ("90^\\circ", "90°", ""),
    ("5 m²", "5 m^2", ""),
    ("1/2", "0.5", ""),
    ("0.5", "1/2", ""),
    (".5", "0.5", ""),
    ("2/4", "1/2", ""),
    ("\\frac{1}{2}", "1/2", ""),
    ("\\dfrac{1}{2}", "0.5", ""),
    ("½", "1/2", ""),
    ("1½", "1.5", ""),
    ("1 1/2", "3/2", ""),
    ("-1/2", "-0.5", ""),
    ("4/2", "2", "integer"),
    ("5%", "0.05", ""),
    ("5 %", "0.05", ""),
    ("0.05", "5%", ""),
    ("5%", "5%", ""),
    ("5", "5%", ""),
    ("5 percent", "5%", ""),
    ("5\\%", "5%", ""),
    ("5%", "5", "percentage"),
    ("5", "5", "percentage"),
    ("12.5%", "1/8", "fraction"),
    ("0.33333333", "1/3", ""),
    ("3.1415926", "3.1415927", ""),
    ("yes", "yes", ""),
    ("Yes.", "yes", ""),
    ("true", "yes", ""),
    ("True", "YES", ""),
    ("yes", "true", ""),
    ("no", "false", ""),
    ("No, it is false", "no", ""),
    ("not true", "false", ""),
    ("Yes, it is", "true", "boolean"),
    ("B", "B", ""),
    ("(B)", "B", ""),
    ("b", "B", ""),
    ("B.", "B", ""),
    ("B) Paris", "B", ""),
    ("B: Paris", "(B)", ""),
    ("Option B", "B", ""),
    ("{3, 2, 1}", "{1, 2, 3}", ""),
    ("3, 2 and 1", "{1, 2, 3}", ""),
    ("{1, 1, 2}", "{1, 2}", ""),
    ("red, blue", "blue, red", "set"),
    ("[1, 2, 3]", "[1, 2, 3]", ""),
    ("1, 2, 3", "[1, 2, 3]", ""),
    ("1,2,3", "[1, 2, 3]", "list"),
    ("1, 2, and 3", "1, 2, 3", ""),
    ("['93.1', '-3.0']", "[93.1, -3]", ""),
    ("(1, 2)", "(1, 2)", ""),
    ("0.5, 50%", "[1/2, 0.5]", ""),
    ("blue", "blue", ""),
    ("Blue.", "blue", ""),
    ("the cat", "cat", ""),
    ('"blue"', "blue", ""),
    ("New  York", "new york", ""),
    ("\\text{blue}", "blue", ""),
    ("ﬁne", "fine", ""),
    ("**5**", "5", ""),
    ("\\boxed{5}", "5", ""),
    ("$5$", "5", ""),
]

DIFFERENT = [
    ("33", "3", ""),
    ("3", "33", ""),
    ("13", "3", ""),
    ("4", "5", ""),
    ("5", "-5", ""),
    ("-5", "5", ""),
    ("12-5", "-5", ""),
    ("12-5", "5", ""),
    ("12 - 5", "7", ""),
    ("3 or 4", "4", ""),
    ("3, 4", "4", ""),
    ("not 5", "5", ""),
    ("4.5", "4", "integer"),
    ("4.0000001", "4", "integer"),
    ("1,23", "123", ""),
    ("1234", "12345", ""),
    ("0.333", "1/3", ""),
    ("5%", "5", ""),
    ("0.5", "5%", ""),
    ("50%", "0.05", ""),
    ("5 km", "5 m", ""),
    ("5 apples", "5 oranges", ""),
    ("$5", "€5", ""),
    ("1/0", "0", ""),
    ("2/1", "1/2", ""),
    ("", "4", ""),
    ("blue", "4", ""),
    ("yes", "no", ""),
    ("no", "true", ""),
    ("yes and no", "yes", ""),
    ("not true", "true", ""),
    ("maybe", "yes", ""),
    ("A", "B", ""),
    ("AB", "A", ""),
    ("A dog", "A", ""),
    ("bad", "B", ""),
    ("[3, 2, 1]", "[1, 2, 3]", ""),
    ("[1, 2]", "[1, 2, 3]", ""),
    ("{1, 2}", "{1, 2, 3}", ""),
    ("{1, 2, 3, 4}", "{1, 2, 3}", ""),
    ("12", "[1, 2]", ""),
    ("blue", "green", ""),
    ("not blue", "blue", ""),
    ("blue and green", "blue", ""),
    ("Paris, France", "Paris", ""),
    ("17 + 25", "42", ""),
    ("17 + 25 = 43", "42", ""),
    ("9" * 5000, "9", ""),
    ("1e999999", "1", ""),
]


@pytest.mark.parametrize(("predicted", "expected", "answer_type"), SAME)
def test_answers_that_mean_the_same(predicted: str, expected: str, answer_type: str) -> None:
    assert equivalent(predicted, expected, answer_type)


@pytest.mark.parametrize(("predicted", "expected", "answer_type"), DIFFERENT)
def test_answers_that_differ(predicted: str, expected: str, answer_type: str) -> None:
    assert not equivalent(predicted, expected, answer_type)


@pytest.mark.parametrize(
    ("expected", "answer_type"),
    [
        ("4", "integer"),
        ("-1,234", "integer"),
        ("5 km", "integer"),
        ("0.5", "decimal"),
        ("4.0", "decimal"),
        ("1/2", "fraction"),
        ("5%", "percentage"),
        ("yes", "boolean"),
        ("False", "boolean"),
        ("B", "choice"),
        ("(c)", "text"),
        ("{1, 2}", "set"),
        ("[1, 2]", "list"),
        ("1, 2, 3", "list"),
        ("Paris, France", "text"),
        ("blue", "text"),
        ("in 3 days or 4", "text"),
    ],
)
def test_the_type_shows_in_the_expected_answer(expected: str, answer_type: str) -> None:
    assert detect_type(expected) == answer_type


def test_an_alias_counts_like_the_answer() -> None:
    assert equivalent("NYC", "New York", "text", aliases=("NYC", "New York City"))


@pytest.mark.parametrize("answer_type", ["", "choice"])
def test_an_alias_of_a_choice_may_be_its_text(answer_type: str) -> None:
    assert equivalent("Paris", "B", answer_type, aliases=("Paris",))
    assert not equivalent("Rome", "B", answer_type, aliases=("Paris",))


def test_the_tolerance_is_relative_to_the_expected_value() -> None:
    assert equivalent("0.333", "1/3", tolerance=0.01)
    assert not equivalent("0.3", "1/3", tolerance=0.01)


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(ValueError, match="answer_type is 'number'; it must be one of integer"):
        equivalent("4", "4", "number")


@pytest.mark.parametrize(
    "answer", ["4", "-7", "1/3", "0.125", "12%", "yes", "C", "[1, 2]", "{a, b}", "word", "5 km"]
)
def test_every_answer_equals_itself(answer: str) -> None:
    assert equivalent(answer, answer)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit",
    [
        *(
            "9",
            "1,",
            "- ",
            "=",
            "a=",
            "1/",
            "{",
            "(",
            "\\frac{",
            "$",
            "no ",
            "1 ",
            "%",
            "1.234,",
            "1.234.",
            "x^",
        ),
        *(
            "March 4 ",
            "1 h ",
            "5 ft 3 in ",
            "a hundred ",
            "twenty ",
            "one half ",
            "square ",
            "x+",
            "1. a\n",
            "°",
        ),
    ],
)
def test_long_hostile_answers_are_compared_in_linear_time(unit: str) -> None:
    for expected in ("4", "[1, 2]", "2024-03-04", "$3.50", "2x + 1", "{a, b}", "word"):
        assert not equivalent(unit * (100_000 // len(unit)), expected)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("filling", ["\n", " ", "*", "{", "1", "a", "a^"])
@pytest.mark.parametrize(
    ("before", "after"), [("$", "$"), ("5", "b"), ("[", "]"), ("\\frac{", "}{"), ("-", "=")]
)
def test_long_filled_answers_are_compared_in_linear_time(filling: str, before: str, after: str) -> None:
    assert not equivalent(before + filling * 50_000 + after, "4")


@given(st.integers(-(10**12), 10**12))
def test_every_way_to_write_an_integer_is_equal(number: int) -> None:
    for written in (
        f"{number:,}",
        f"{number}.",
        f"**{number}**",
        f"x = {number}",
        f"{number}.0",
        f"{number} km",
    ):
        assert equivalent(written, str(number))
        assert not equivalent(written, str(number + 1))


@given(st.integers(-999, 999), st.integers(1, 999))
def test_a_fraction_equals_its_reduced_form_only(top: int, bottom: int) -> None:
    reduced = Fraction(top, bottom)
    assert equivalent(f"{top}/{bottom}", f"{reduced.numerator}/{reduced.denominator}")
    assert not equivalent(f"{top + 1}/{bottom}", f"{reduced.numerator}/{reduced.denominator}")


@given(st.text(max_size=60), st.sampled_from(["", *ANSWER_TYPES]))
@example("0;0", "")  # a formula, as is `2x + 1`: what compares them decides
def test_no_text_makes_the_comparison_fail(text: str, answer_type: str) -> None:
    for expected in (
        "4",
        "1/2",
        "yes",
        "B",
        "[1, 2]",
        "{a}",
        "word",
        "$3.50",
        "4 March 2024",
        "2x + 1",
        "5 km",
    ):
        made = equivalent(text, expected, answer_type, formulas=lambda guess, target, tolerance: False)
        assert made in (True, False)
    equivalent("4", text, answer_type)


PARTS = [
    "5",
    "yes",
    "no",
    "not",
    "B",
    "March",
    "4,",
    "2024",
    "x",
    "+",
    "km",
    "and",
    "1/2",
    "$",
    "(",
    "[",
    "]",
    ")",
]


@given(
    st.text(max_size=12) | st.lists(st.sampled_from(PARTS), max_size=6).map(" ".join),
    st.sampled_from(["", *ANSWER_TYPES]),
)
def test_whatever_the_type_an_answer_equals_itself_with_other_spaces(text: str, answer_type: str) -> None:
    if clean_answer(text):
        assert equivalent(text, text, answer_type)
        assert equivalent(text.replace(" ", "  "), text, answer_type)
