import pytest

from tunix_rt.answers.extract import extract_answer
from tunix_rt.answers.score import score_output
from tunix_rt.traces.golden import golden_v2
from tunix_rt.traces.text import FORMATS, completion_text, prompt_messages, template_faults, user_message
from tunix_rt.traces.trace import Step, Trace

TRACE = Trace(
    id="t",
    prompt="Calculate 17 + 25 - 8.",
    steps=(
        Step(i=0, type="compute", content="17 + 25 = 42"),
        Step(i=1, type="compute", content="42 - 8 = 34"),
    ),
    final_answer="34",
)


def test_the_answer_line_format() -> None:
    assert completion_text(TRACE) == "17 + 25 = 42\n42 - 8 = 34\nAnswer: 34"


def test_the_tags_format() -> None:
    expected = "<reasoning>17 + 25 = 42\n42 - 8 = 34</reasoning>\n<answer>34</answer>"
    assert completion_text(TRACE, "tags") == expected


def test_a_trace_without_steps_is_its_answer() -> None:
    assert completion_text(Trace(id="t", prompt="p", final_answer="4")) == "Answer: 4"


@pytest.mark.parametrize("text_format", FORMATS)
def test_an_own_completion_is_kept_verbatim(text_format: str) -> None:
    assert completion_text(Trace(id="t", prompt="p", completion=" It is 4. "), text_format) == " It is 4. "


def test_a_trace_with_nothing_to_learn_is_an_error() -> None:
    with pytest.raises(ValueError, match="trace t has neither"):
        completion_text(Trace(id="t", prompt="p"))


def test_the_instruction_is_the_system_message() -> None:
    assert prompt_messages("2+2?") == [
        {"role": "system", "content": "Show each step on a line, then Answer: result."},
        {"role": "user", "content": "2+2?"},
    ]


def test_a_given_system_message_comes_before_the_instruction() -> None:
    content = prompt_messages("2+2?", "tags", "Be brief.")[0]["content"]
    assert content.startswith("Be brief.\nReason in <reasoning>")


def test_a_template_words_the_users_message() -> None:
    messages = prompt_messages("2+2?", template="Question: {question}\nAnswer:")
    assert messages[1] == {"role": "user", "content": "Question: 2+2?\nAnswer:"}


def test_a_question_may_hold_braces() -> None:
    assert user_message("What is {question} in {x}?", "Q: {question}") == "Q: What is {question} in {x}?"


@pytest.mark.parametrize(
    ("template", "faults"),
    [
        ("Q: {question}", []),
        ("Q:", ["has `{question}` 0 times; it must stand there exactly once."]),
        ("{question} {question}", ["has `{question}` 2 times; it must stand there exactly once."]),
        ("{{question}", ["has `{` outside of `{question}`; leave other braces out."]),
        ("{question} {x}", ["has `{` and `}` outside of `{question}`; leave other braces out."]),
        (
            "é" * 8193 + "}",
            [
                "has 16387 bytes; it must have at most 16384.",
                "has `{question}` 0 times; it must stand there exactly once.",
                "has `}` outside of `{question}`; leave other braces out.",
            ],
        ),
    ],
)
def test_every_fault_of_a_template_is_named(template: str, faults: list[str]) -> None:
    assert template_faults(template) == faults


def test_an_unknown_format_is_an_error() -> None:
    with pytest.raises(ValueError, match="format is 'xml'; it must be one of answer-line, tags"):
        prompt_messages("p", "xml")


@pytest.mark.parametrize("text_format", FORMATS)
def test_every_trained_completion_scores_as_correct(text_format: str) -> None:
    for trace in golden_v2():
        output = completion_text(trace, text_format)
        assert score_output(output, trace.final_answer, trace.answer_type).outcome == "correct"
        assert extract_answer(output).explicit
