import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunix_rt.traces.expressions import ExpressionError, solve


@pytest.mark.parametrize(
    ("expression", "steps"),
    [
        ("17 + 25 - 8", ("17 + 25 = 42", "42 - 8 = 34")),
        ("2 + 3 * 4", ("3 * 4 = 12", "2 + 12 = 14")),
        ("( 2 + 3 ) * 4", ("2 + 3 = 5", "5 * 4 = 20")),
        ("8 / 2 / 2", ("8 / 2 = 4", "4 / 2 = 2")),
        ("2 - -3", ("2 - -3 = 5",)),
        ("-5 * 9 / 3", ("-5 * 9 = -45", "-45 / 3 = -15")),
        ("10 - 4 - 3", ("10 - 4 = 6", "6 - 3 = 3")),
        ("7", ()),
    ],
)
def test_steps_follow_precedence_from_left_to_right(expression: str, steps: tuple[str, ...]) -> None:
    assert solve(expression).steps == steps


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "2 +",
        "2 3",
        "( 2",
        "2 )",
        "-( 2 + 3 )",
        "7 / 2",
        "1 / 0",
        "2 ** 3",
        "x + 1",
        "1.5 + 1",
        "2 + + 3",
        "--2",
    ],
)
def test_what_has_no_exact_integer_value_is_an_error(expression: str) -> None:
    with pytest.raises(ExpressionError):
        solve(expression)


@given(
    st.recursive(
        st.integers(-99, 99).map(str),
        lambda e: st.tuples(e, st.sampled_from("+-*"), e).map(
            lambda parts: f"( {parts[0]} {parts[1]} {parts[2]} )"
        ),
        max_leaves=8,
    )
)
def test_the_value_is_that_of_python(expression: str) -> None:
    solution = solve(expression)
    assert solution.value == eval(expression)
    assert len(solution.steps) == len(re.findall(r" [-+*] ", expression))
