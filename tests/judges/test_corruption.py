"""Corrupted answers are plausible, wrong by our own rules, and the same for ever."""

import pytest

from tunix_rt.answers.equivalence import equivalent
from tunix_rt.answers.score import score_output
from tunix_rt.judges.corruption import PureRules, corrupted
from tunix_rt.traces.trace import Step, Trace

ANSWERS = [
    ("42", "", "integer"),
    ("7", "integer", "integer"),
    ("1,250", "integer", "integer"),
    ("3.75", "decimal", "decimal"),
    ("3/4", "fraction", "fraction"),
    ("12.5%", "percentage", "percentage"),
    ("$19.99", "currency", "currency"),
    ("yes", "boolean", "boolean"),
    ("False", "boolean", "boolean"),
    ("B", "choice", "choice"),
    ("(E)", "choice", "choice"),
    ("3, 1, 2", "list", "list"),
    ("red, green", "list", "list"),
    ("{a, b, c}", "set", "set"),
    ("2024-03-04", "date", "date"),
    ("4 March 2024", "date", "date"),
    ("2x + 3", "expression", "expression"),
    ("12 km", "", "integer"),
    ("Paris", "text", "text"),
]


def trace(answer: str, kind: str = "", **more: object) -> Trace:
    steps = (Step(0, "read", "I read the question."), Step(1, "compute", f"So it is {answer}"))
    return Trace(id="t", prompt="What?", steps=steps, final_answer=answer, answer_type=kind, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("answer", "kind", "_"), ANSWERS)
@pytest.mark.parametrize("format_name", ["answer-line", "tags"])
def test_the_rules_tell_the_right_output_from_the_wrong_one(
    answer: str, kind: str, _: str, format_name: str
) -> None:
    for seed in range(5):
        made = corrupted(
            trace(answer, kind), ["Rome", "Oslo"], format=format_name, seed=seed, rules=PureRules()
        )
        assert score_output(made.right, answer, kind).outcome == "correct"
        assert score_output(made.wrong, answer, kind).outcome == "wrong"
        assert not equivalent(made.wrong_answer, answer, kind)


def test_a_wrong_answer_keeps_the_form_of_the_right_one() -> None:
    found = {
        answer: corrupted(
            trace(answer, kind), ["Rome"], format="answer-line", seed=0, rules=PureRules()
        ).wrong_answer
        for answer, kind, _ in ANSWERS
    }
    assert found["yes"] == "no"
    assert found["False"] == "True"
    assert found["Paris"] == "Rome"
    assert found["B"] in {"A", "C", "D"}
    assert len(found["1,250"]) == 5
    assert found["1,250"][1] == ","
    assert found["$19.99"].startswith("$")
    assert found["12 km"].endswith(" km")


def test_a_corruption_is_a_function_of_item_and_seed() -> None:
    found = [
        corrupted(trace("1234"), [], format="answer-line", seed=seed, rules=PureRules())
        for seed in (1, 1, 2, 3, 4)
    ]
    assert found[0] == found[1]
    assert len({each.wrong_answer for each in found}) > 1


def test_steps_are_changed_in_some_items_and_left_in_others() -> None:
    found = [
        corrupted(trace("1234"), [], format="answer-line", seed=seed, rules=PureRules()) for seed in range(40)
    ]
    changed = [each for each in found if each.in_steps]
    assert 8 <= len(changed) <= 32
    assert all("1234" not in each.wrong for each in changed)
    assert all(each.wrong.count("1234") == 1 for each in found if not each.in_steps)


def test_an_own_completion_gives_way_to_the_rendered_trace() -> None:
    made = corrupted(
        trace("5", completion="I say 5. Answer: 5"), [], format="answer-line", seed=0, rules=PureRules()
    )
    assert made.right == "I read the question.\nSo it is 5\nAnswer: 5"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (trace(""), "no answer whose truth"),
        (trace("Paris", "text"), "no wrong answer"),
        (trace("seven hills", "integer"), "no wrong answer"),
    ],
)
def test_items_without_a_wrong_answer_are_refused(item: Trace, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrupted(item, [], format="answer-line", seed=0, rules=PureRules())


def test_aliases_are_not_wrong_answers() -> None:
    item = trace("Paris", "text", aliases=("City of Light",))
    made = corrupted(item, ["City of Light", "Rome"], format="answer-line", seed=0, rules=PureRules())
    assert made.wrong_answer == "Rome"
