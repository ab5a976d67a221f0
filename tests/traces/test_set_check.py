"""Checks of a set before it is evaluated on."""

from __future__ import annotations

import pytest

from tunix_rt.traces.set_check import check_set
from tunix_rt.traces.trace import Trace


def item(name: str, answer: str, kind: str, **changes: object) -> Trace:
    return Trace(
        **{"id": name, "prompt": f"What is {name}?", "final_answer": answer, "answer_type": kind, **changes}
    )


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("42", "integer"),
        ("1,234", "integer"),
        ("3.5 km", "decimal"),
        ("3/4", "fraction"),
        ("12 %", "percentage"),
        ("yes", "boolean"),
        ("False", "boolean"),
        ("(B)", "choice"),
        ("1, 2, 3", "list"),
        ("{a, b}", "set"),
        ("Paris", "text"),
        ("2024-03-14", "date"),
        ("4 March 2024", "date"),
        ("$3.50", "currency"),
        ("2*x + 1", "expression"),
        ("50 cm", "integer"),
    ],
)
def test_an_answer_of_its_type_has_no_fault(answer: str, kind: str) -> None:
    assert check_set([item("a", answer, kind)]).faults == ()


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ("", "integer", "has no expected answer"),
        ("42", "", "would be read as integer"),
        ("many", "integer", "is no integer"),
        ("3 or 4", "decimal", "is no decimal"),
        ("perhaps", "boolean", "is no boolean"),
        ("Paris", "choice", "is no choice"),
        ("3.5", "integer", "is no integer"),
        ("2024-02-31", "date", "is no date"),
        ("03/04/2024", "date", "is no date"),  # the 3rd of April, or the 4th of March
        ("cheap", "currency", "is no currency"),
        ("x ++ )", "expression", "is no expression"),
    ],
)
def test_an_answer_that_cannot_be_scored_by_is_a_fault(answer: str, kind: str, text: str) -> None:
    (fault,) = check_set([item("a", answer, kind)]).faults
    assert fault.path == "a"
    assert text in fault.message


def test_a_question_that_stands_twice_is_a_fault() -> None:
    same = item("a", "4", "integer", prompt="What is 2 + 2?")
    again = item("b", "4.0", "integer", prompt="what is 2+2 ?")
    other = item("c", "5", "integer", prompt="What is 2 + 2?")
    faults = check_set([same, again, other]).faults
    assert [(fault.path, fault.message) for fault in faults] == [
        ("b", "asks what a asks; leave one out."),
        ("c", "asks what a asks, but expects `5`, not `4`; leave one out."),
    ]


def test_sections_and_types_are_counted() -> None:
    report = check_set(
        [
            item("a", "4", "integer", meta={"section": "sums"}),
            item("b", "5", "integer", meta={"section": "sums"}),
            item("c", "yes", "boolean"),
        ]
    )
    assert (report.items, report.sections, report.types) == (
        3,
        {"": 1, "sums": 2},
        {"boolean": 1, "integer": 2},
    )


def test_duplicates_are_counted_less_one_for_each_question() -> None:
    questions = ["What is 2 + 2?", "what is 2+2", "What is 2 - 2?", "What is 2 + 2 ?"]
    items = [item(f"t{at}", "4", "integer", prompt=text) for at, text in enumerate(questions)]
    assert check_set(items).duplicates == 2
    assert check_set(items[1:3]).duplicates == 0
