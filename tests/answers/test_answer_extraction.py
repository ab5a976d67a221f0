import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunix_rt.answers.extract import answer_in_format, clean_answer, extract_answer, last_number

CASES = [
    # Tags.
    ("<reasoning>2+2</reasoning>\n<answer>4</answer>", "4", "tag"),
    ("<reasoning>2+2</reasoning><answer> 4 </answer>", "4", "tag"),
    ("<ANSWER>4</ANSWER>", "4", "tag"),
    ("<answer>\n**4**\n</answer>", "4", "tag"),
    ("<answer>3</answer> no, <answer>4</answer>", "4", "tag"),
    ("<answer></answer> Answer: 7", "7", "answer_line"),
    ("<answer>3</answer><answer></answer>", "3", "tag"),
    ("<answer>$\\boxed{4}$</answer>", "4", "tag"),
    ("<answer>Answer: 4</answer>", "Answer: 4", "tag"),
    ("Answer: 9 <answer>4</answer>", "4", "tag"),
    ("<answer>x = 4", "x = 4", "open_tag"),
    ("<answer>4\nand then", "4", "open_tag"),
    ("<think>2+2 is 4</think>4", "4", "whole_text"),
    ("2+2 is 5, no, 4</think>\nAnswer: 4", "4", "answer_line"),
    # Reasoning that is never closed is not an answer.
    ("<reasoning>2 + 2 = 4", None, "unfinished_reasoning"),
    ("<reasoning>2 + 2 = 4\nAnswer: 4", None, "unfinished_reasoning"),
    ("<think>It is 4", None, "unfinished_reasoning"),
    ("<reasoning>a</reasoning> so <reasoning>12 - 5 = 7", None, "unfinished_reasoning"),
    ("Answer: 4\n<reasoning>but maybe 5", "4", "answer_line"),
    ("<reasoning>17 + 25 = 42</reasoning>", None, "none"),
    # The `Answer:` line.
    ("Reasoning… Answer: 4", "4", "answer_line"),
    ("17 + 25 = 42\n42 - 8 = 34\nAnswer: 34", "34", "answer_line"),
    ("answer: 4", "4", "answer_line"),
    ("ANSWER : 4", "4", "answer_line"),
    ("Final Answer: 4.", "4", "answer_line"),
    ("**Answer:** 5", "5", "answer_line"),
    ("**Answer**: 5", "5", "answer_line"),
    ("**Answer: 5**", "5", "answer_line"),
    ("*Answer:* `5`", "5", "answer_line"),
    ("__Answer:__ 5", "5", "answer_line"),
    ("### Answer: 5", "5", "answer_line"),
    ("### Answer\n5", "5", "answer_line"),
    ("## Final answer\n\n**5**", "5", "answer_line"),
    ("Answer:\n5", "5", "answer_line"),
    ("**Answer:**\n\n5 apples", "5 apples", "answer_line"),
    ("Answer:\n- 5", "5", "answer_line"),
    ("Answer:5", "5", "answer_line"),
    ("Answer = 5", "5", "answer_line"),
    ("Answer: 3\nAnswer: 4", "4", "answer_line"),
    ("Answer: 4\nThis took 2 steps.", "4", "answer_line"),
    ("Answer: 5. This is because 2 + 3 = 5.", "5", "answer_line"),
    ("Answer: $\\frac{1}{2}$", "\\frac{1}{2}", "answer_line"),
    ("Answer: $5", "$5", "answer_line"),
    ("Answer: $5$", "5", "answer_line"),
    ("Answer: \\(5\\)", "5", "answer_line"),
    ("Answer: \\boxed{5}", "5", "answer_line"),
    ('Answer: "blue"', "blue", "answer_line"),
    ("Answer: −5", "−5", "answer_line"),
    ("Answer: yes", "yes", "answer_line"),
    ("Answer: (B)", "(B)", "answer_line"),
    ("Answer：5", "5", "answer_line"),
    ("Answer: St. Louis", "St. Louis", "answer_line"),
    ("Answer: 1, 2, 3", "1, 2, 3", "answer_line"),
    ("Answer: 4\r\n", "4", "answer_line"),
    ("Answer:", "Answer:", "whole_text"),
    # \boxed{}.
    ("So \\boxed{42}.", "42", "boxed"),
    ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}", "boxed"),
    ("\\boxed{\\boxed{7}}", "7", "boxed"),
    ("\\boxed{3} no \\boxed{4}", "4", "boxed"),
    ("\\boxed{\\text{yes}}", "\\text{yes}", "boxed"),
    ("\\fbox{4}", "4", "boxed"),
    ("\\boxed{x^{2}+1}", "x^{2}+1", "boxed"),
    ("after some steps the value 12 is in \\boxed{4", "4", "last_number"),
    # Other marks.
    ("5 + 5 = 10\n#### 10", "10", "hashes"),
    ("#### 1,234", "1,234", "hashes"),
    ("So the answer is 7.", "7", "answer_phrase"),
    ("The answer is: **7**", "7", "answer_phrase"),
    ("Therefore the final answer is $7$.", "7", "answer_phrase"),
    ("The answer to the problem is 7. Good.", "7", "answer_phrase"),
    # Nothing but an answer.
    ("4", "4", "whole_text"),
    ("4.", "4", "whole_text"),
    (" 4\n", "4", "whole_text"),
    ("**4**", "4", "whole_text"),
    ("**4**.", "4", "whole_text"),
    ("blue", "blue", "whole_text"),
    ("x = 5.", "x = 5", "whole_text"),
    ("5 km", "5 km", "whole_text"),
    ("12-5", "12-5", "whole_text"),
    # The last number.
    ("First I add 17 and 25 and get 42\nthen I subtract 8 and get 34", "34", "last_number"),
    ("I think that after all of this it is about 1,234.5 in the end", "1,234.5", "last_number"),
    ("we start from twelve and so on until we finally compute 12-5", "5", "last_number"),
    ("we start from twelve and so on until we finally get -5", "-5", "last_number"),
    ("we start from twelve and so on until we finally get: −5.", "−5", "last_number"),
    ("after adding all the parts together we get x=-5 here", "-5", "last_number"),
    ("after adding all the parts together we get 50% of it", "50%", "last_number"),
    ("after adding all the parts together we get 1/2 of it", "1/2", "last_number"),
    ("after adding all the parts together it costs $3.50 or so", "$3.50", "last_number"),
    ("after adding all the parts together it costs €1.234,56 or so", "€1.234,56", "last_number"),
    ("after adding all the parts together we get 1.234.567 of them", "1.234.567", "last_number"),
    # Nothing.
    ("", None, "none"),
    ("  \n ", None, "none"),
    ("I am sorry but I cannot tell you how many there are", None, "none"),
    ("The formula of the water in this glass is simply H2O", None, "none"),
    ("...", "...", "whole_text"),
]


@pytest.mark.parametrize(("text", "answer", "rule"), CASES)
def test_extracts_answer_and_names_the_rule(text: str, answer: str | None, rule: str) -> None:
    found = extract_answer(text)
    assert (found.answer, found.rule) == (answer, rule)


BY_TYPE = [
    # text, type, answer, rule
    ("B because Paris is the capital of France", "choice", "B", "first_letter"),
    ("B. Paris is the capital of France, you know", "choice", "B", "first_letter"),
    ("B) Paris is the capital of France, you know", "choice", "B", "first_letter"),
    ("(b) is right since nothing else would fit", "choice", "B", "first_letter"),
    ("Option C, as it is the only one that fits", "choice", "C", "first_letter"),
    ("**D** - since the sum of these is the greatest", "choice", "D", "first_letter"),
    ("A because nothing else would fit in here", "choice", "A", "first_letter"),
    ("A\nbecause nothing else would fit in here", "choice", "A", "first_letter"),
    ("B\n\n12 + 5 = 17", "choice", "B", "first_letter"),
    ("B", "choice", "B", "whole_text"),
    ("Paris", "choice", "Paris", "whole_text"),
    ("The correct option is (D)", "choice", "(D)", "answer_phrase"),
    ("I am sure: the best choice is B.", "choice", "B", "answer_phrase"),
    ("C is tempting.\nAnswer: B", "choice", "B", "answer_line"),
    ("A dog walked into the room and it barked", "choice", None, "none"),
    ("I think that it is 42 degrees out there", "choice", None, "none"),
    ("Because Paris is the capital of France we say so", "choice", None, "none"),
    ("<reasoning>B because", "choice", None, "unfinished_reasoning"),
    ("All of this happened somewhere on 2024-03-04, they say", "date", "2024-03-04", "last_date"),
    ("From March 3, 2024 it went on until 5 March 2024", "date", "5 March 2024", "last_date"),
    ("There are 12 of them in all the months of 2024", "date", None, "none"),
    ("There are 12 of them and so it cannot be right", "boolean", None, "none"),
    ("There are 12 of them and 13 of those, it seems", "list", None, "none"),
    ("There are 12 of them and 13 of those, it seems", "integer", "13", "last_number"),
    ("There are 12 of them and 13 of those, it seems", "", "13", "last_number"),
    ("B because Paris is the capital of France", "text", None, "none"),
]


@pytest.mark.parametrize(("text", "answer_type", "answer", "rule"), BY_TYPE)
def test_the_type_decides_about_unmarked_answers(
    text: str, answer_type: str, answer: str | None, rule: str
) -> None:
    found = extract_answer(text, answer_type)
    assert (found.answer, found.rule) == (answer, rule)


FORMATTED = [
    ("2 + 2\nAnswer: 4", "answer-line", "4"),
    ("Answer: **4**", "answer-line", "4"),
    ("Answer:4", "answer-line", "4"),
    ("Answer:", "answer-line", None),
    ("Answer: 4\nDone", "answer-line", None),
    ("<think>Answer: 4", "answer-line", None),
    ("<answer>4</answer>", "tags", "4"),
    ("<reasoning>2 + 2</reasoning>\n<answer>4</answer>\n", "tags", "4"),
    ("<answer></answer>", "tags", None),
    ("</answer>", "tags", None),
    ("4</answer>", "tags", None),
    ("", "tags", None),
]


@pytest.mark.parametrize(("text", "format_", "answer"), FORMATTED)
def test_the_answer_where_the_format_asks_for_it(text: str, format_: str, answer: str | None) -> None:
    assert answer_in_format(text, format_) == answer


def test_there_is_no_answer_in_an_unknown_format() -> None:
    with pytest.raises(ValueError, match="format is 'json'; it must be one of answer-line, tags"):
        answer_in_format("4", "json")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12-5", "5"),
        ("12 - 5", "5"),
        ("12 -5", "-5"),
        ("(3)-5", "5"),
        ("x-5", "5"),
        ("= -5", "-5"),
        ("33", "33"),
        ("1,234,567", "1,234,567"),
        ("12,34", "34"),
        ("3.14.", "3.14"),
        (".5", ".5"),
        ("2e3", "2e3"),
        ("5km", "5"),
        ("x2", None),
        ("none", None),
    ],
)
def test_last_number_keeps_its_own_sign_only(text: str, number: str | None) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("text", "clean"),
    [("**5**.", "5"), ("`5`", "5"), ("$$5$$", "5"), ("'5'", "5"), ("“5”", "5"), ("> 5", "5"), ("5!", "5")],
)
def test_wrappers_are_removed_from_an_answer(text: str, clean: str) -> None:
    assert clean_answer(text) == clean


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit",
    [
        "<think>",
        "</think>",
        "<answer>",
        "\\boxed{",
        "{",
        "answer ",
        "Answer:",
        "**",
        "1,",
        "$",
        "9",
        "\n",
        "- ",
        "#",
    ],
)
def test_long_hostile_texts_are_read_in_linear_time(unit: str) -> None:
    for answer_type in ("", "choice", "date"):
        extract_answer(unit * (200_000 // len(unit)), answer_type)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("filling", ["\n", " ", "*", "{", "1 ", "\t\n"])
@pytest.mark.parametrize(
    ("before", "after"), [("Answer:", ""), ("a", "b"), ("Answer: $", "$"), ("\\boxed{", "}")]
)
def test_long_fillings_are_read_in_linear_time(filling: str, before: str, after: str) -> None:
    extract_answer(before + filling * 100_000 + after)


@given(st.text(alphabet="0123456789-+=. \n*$\\{}<>/answerboxdthik:", max_size=80))
def test_no_text_makes_the_extraction_fail(text: str) -> None:
    found = extract_answer(text)
    assert (found.answer is None) == (found.rule in ("none", "unfinished_reasoning"))


@given(st.integers(-(10**9), 10**9), st.text(alphabet="abc 0123456789+=\n", max_size=60))
def test_whatever_stands_before_it_the_answer_line_counts(number: int, before: str) -> None:
    assert extract_answer(f"{before}\nAnswer: {number}").answer == str(number)
