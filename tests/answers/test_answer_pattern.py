import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunix_rt.answers.extract import extract_answer
from tunix_rt.answers.pattern import check_pattern
from tunix_rt.answers.score import score_output

USABLE = [
    # pattern, text, answer
    (r"Answer:\s*(.+)", "Answer: 4", "4"),
    (r"#### (\-?[0-9\.\,]+)", "5 + 5 = 10\n#### 10", "10"),
    (r"(?i)the answer is:?\s*\(?([A-J])\)?", "So the ANSWER is (B)", "B"),
    (r"\\boxed\{([^{}]+)\}", "so \\boxed{42}", "42"),
    (r"<final>(.*?)</final>", "<final>3</final><final>7</final>", "7"),
    (r"(\$?\d[\d,]*(?:\.\d+)?)", "from $3 to $1,234.50", "$1,234.50"),
    (r"\d+", "12 and 34", "34"),
    (r"result: (\d+)|total: (\d+)", "total: 9", "9"),
    (r"result: (\d+)|total: (\d+)", "nothing", None),
    (r"Answer: (\d+)", "<reasoning>Answer: 3</reasoning>\nAnswer: 4", "4"),
    (r"Answer: (\d+)", "<reasoning>Answer: 3</reasoning>\nfour", None),
    (r"Answer: (\d+)", "<reasoning>Answer: 3", None),
    (r"Answer: (\d+)", "4", None),
    (r"(?:,\d{3})*x", ",123,456x", ",123,456x"),
]

REFUSED = [
    ("(", "is not a regular expression: missing ), unterminated subpattern at position 0."),
    ("a" * 201, "has 201 characters; at most 200 are allowed."),
    (".*", "matches the empty text; it must ask for at least one character."),
    (r"(\d*)", "matches the empty text; it must ask for at least one character."),
    ("(a+)+b", "repeats a group that repeats or has alternatives; that may take too long."),
    ("(?:a|a)*b", "repeats a group that repeats or has alternatives; that may take too long."),
    ("(?:a?){30}b", "repeats a group that repeats or has alternatives; that may take too long."),
    (r"(a)\1", "refers to a group; that may take too long."),
    ("(?P<n>a)(?P=n)", "refers to a group; that may take too long."),
    (".*x.*y", "has more than one repeat over nearly any character before its end; that may take too long."),
    ("a*b*c*d*e*f*g*h", "has 7 repeats; at most 6 are allowed."),
    ("a?" * 11 + "b", "has 11 options (`?` and `|`); at most 10 are allowed."),
    ("(?x) a b", "has the flag x; write the pattern without spaces and comments."),
]


@pytest.mark.parametrize(("pattern", "text", "answer"), USABLE)
def test_the_last_match_of_a_pattern_is_the_answer(pattern: str, text: str, answer: str | None) -> None:
    assert check_pattern(pattern) is None
    found = extract_answer(text, pattern=pattern)
    assert found.answer == answer
    assert (found.rule == "pattern") is (answer is not None)


@pytest.mark.parametrize(("pattern", "problem"), REFUSED)
def test_an_unusable_pattern_is_refused_with_the_reason(pattern: str, problem: str) -> None:
    assert check_pattern(pattern) == problem
    with pytest.raises(ValueError, match=r"^pattern (is|has|matches|repeats|refers)"):
        score_output("4", "4", pattern=pattern)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["a" * 100_000, "Answer:" * 15_000, " " * 100_000, "1" * 100_000])
@pytest.mark.parametrize("pattern", [r"Answer:\s*(.+?)\s*x", r".*=(\d+)", "a*a?=", r"\d+z"])
def test_a_usable_pattern_reads_long_texts_in_time(pattern: str, text: str) -> None:
    assert check_pattern(pattern) is None
    assert extract_answer(text, pattern=pattern).answer is None


@given(st.text(alphabet="ab()[]{}*+?|\\.^$,0123:=!<>P", max_size=30))
def test_every_pattern_is_either_refused_or_usable(pattern: str) -> None:
    if check_pattern(pattern) is None:
        extract_answer("ab 12 ab" * 20, pattern=pattern)
