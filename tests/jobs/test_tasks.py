"""What a task fills into a spec, for every field that a spec has or will have."""

from __future__ import annotations

import pytest

from tunix_rt.jobs.evaluation_spec import NOT_OF_TASKS, complete_evaluation
from tunix_rt.jobs.tasks import fill_in
from tunix_rt.v1.evaluation_pb2 import Decoding, EvaluationSpec, FewShot, Judge
from tunix_rt.v1.task_pb2 import TaskVersion

NAME = "tasks/t/versions/v1"
MESSAGES = {"decoding": Decoding(max_tokens=7), "few_shot": FewShot(count=2), "judge": Judge(rubric="Kind.")}
FIELDS = [field for field in EvaluationSpec.DESCRIPTOR.fields if field.name not in NOT_OF_TASKS]


def task(**spec: object) -> TaskVersion:
    return TaskVersion(name=NAME, spec=EvaluationSpec(**{"dataset": "datasets/d", **spec}))


def value_of(field) -> object:
    """A value that is no field's default."""
    if field.message_type:
        return MESSAGES[field.name]
    return "other" if field.cpp_type == field.CPPTYPE_STRING else 3


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_field_that_differs_is_named(field) -> None:
    spec = EvaluationSpec(**{field.name: value_of(field)})
    (violation,) = fill_in(spec, task(), "spec")[1]
    assert violation.field.startswith(f"spec.{field.name}")


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_empty_field_is_filled_in(field) -> None:
    given = task(**{field.name: value_of(field)})
    filled, violations = fill_in(EvaluationSpec(), given, "spec")
    assert violations == []
    assert filled == complete_evaluation(given.spec)


def test_what_a_task_does_not_say_stays_as_it_was() -> None:
    spec = EvaluationSpec(subject="runs/r", allow_contamination=True, predictions="0" * 64, task=NAME)
    filled, violations = fill_in(spec, task(), "spec")
    assert violations == []
    assert [getattr(filled, name) for name in NOT_OF_TASKS] == ["runs/r", True, "0" * 64, NAME]


def test_a_filled_spec_stays_as_it_is() -> None:
    given = task(few_shot=FewShot(count=2), decoding=Decoding(temperature=0.5, stop=["a"]), samples=3)
    filled, _ = fill_in(EvaluationSpec(subject="runs/r", task=NAME), given, "spec")
    assert fill_in(filled, given, "spec") == (filled, [])


def test_fields_inside_of_fields_are_compared_one_by_one() -> None:
    given = task(decoding=Decoding(max_tokens=9, temperature=0.5), judge=Judge(subject="runs/j", rubric="A."))
    spec = EvaluationSpec(
        decoding=Decoding(max_tokens=9, temperature=0.25), judge=Judge(subject="runs/j", rubric="B.")
    )
    violations = fill_in(spec, given, "spec")[1]
    assert [(each.field, each.description) for each in violations] == [
        ("spec.decoding.temperature", f"is 0.25, but `{NAME}` says 0.5. Leave it out."),
        ("spec.judge.rubric", f"is `B.`, but `{NAME}` says `A.`. Leave it out."),
    ]
