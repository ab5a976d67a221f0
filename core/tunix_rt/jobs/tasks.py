"""Evaluation specs by task: what a task fills in, and what must not be said otherwise beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from tunix_rt.jobs.evaluation_spec import NOT_OF_TASKS, complete_evaluation
from tunix_rt.jobs.remote import CALL_SECONDS, answer
from tunix_rt.rpc.errors import Violation
from tunix_rt.rpc.names import TASK_VERSION, matches
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec
from tunix_rt.v1.task_pb2 import TaskVersion

_SHOWN = 80


def fill_in(spec: EvaluationSpec, task: TaskVersion, field: str) -> tuple[EvaluationSpec, list[Violation]]:
    """The spec of the task for this subject, and what the spec given says otherwise; `field` is its path.

    Only an empty field is filled in, so a field that is set must say what the task says. Without
    violations the two measure the same, whatever was written.
    """
    made = complete_evaluation(task.spec)
    violations = list(_differences(spec, made, field, task.name))
    for name in NOT_OF_TASKS:
        setattr(made, name, getattr(spec, name))
    return made, violations


async def fill_in_named(
    registry: Any, spec: EvaluationSpec, field: str
) -> tuple[EvaluationSpec, list[Violation]]:
    """As `fill_in` with the task that the spec names; the spec itself if it names none. Raises NotFound."""
    if not matches(spec.task, TASK_VERSION):
        return spec, []
    request = registry_pb.GetTaskVersionRequest(name=spec.task)
    task: TaskVersion = await answer(registry.GetTaskVersion(request, timeout=CALL_SECONDS))
    return fill_in(spec, task, field)


def _differences(given: Message, wanted: Message, field: str, task: str) -> Iterator[Violation]:
    for descriptor, value in given.ListFields():
        name, path = descriptor.name, f"{field}.{descriptor.name}"
        if isinstance(given, EvaluationSpec) and name in NOT_OF_TASKS:
            continue
        other = getattr(wanted, name)
        if not isinstance(value, Message):
            if value != other:
                yield Violation(path, f"is {_text(value)}, but `{task}` says {_text(other)}. Leave it out.")
        elif wanted.HasField(name):
            yield from _differences(value, other, path, task)
        else:
            yield Violation(path, f"is set, but `{task}` has none. Leave it out.")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return f"`{value[:_SHOWN]}`" if value else "nothing"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return str(value)
    return ", ".join(map(_text, value)) or "nothing"
