"""Which evaluations a leaderboard shows, and by which of their items it ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tunix_rt.registry.run_filter import moment_of
from tunix_rt.registry.run_index import digest
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.v1 import registry_service_pb2

PART_KEYS = ("section", "category")
MAX_VALUES = 100
MAX_PART = 200
_PART_FAULT = f"must be printable and have at most {MAX_PART} characters."


@dataclass(frozen=True)
class Condition:
    """A condition in SQL, and its parameters."""

    sql: str
    parameters: dict[str, Any]


def check(request: registry_service_pb2.GetLeaderboardRequest) -> None:
    """Raises InvalidArgument that names all bad fields, but for those that the dataset decides about."""
    if bad := [violation for violation in _violations(request) if violation]:
        raise InvalidArgument(bad)


def parts_of(request: registry_service_pb2.GetLeaderboardRequest) -> dict[str, str]:
    """The section and the category that are ranked by; empty for all items."""
    return {key: value for key in PART_KEYS if (value := getattr(request, key))}


def conditions(request: registry_service_pb2.GetLeaderboardRequest) -> Condition:
    """What is asked of an evaluation `e`, its job `j` and the run `o` that its subject is or came from."""
    texts: list[str] = []
    values: dict[str, Any] = {}
    if request.models:
        texts.append(
            "(split_part(e.subject, '/versions/', 1) = ANY(%(models)s::text[])"
            " OR split_part(o.model, '/versions/', 1) = ANY(%(models)s::text[])"
            " OR EXISTS (SELECT FROM model_versions m WHERE m.run <> '' AND m.run = o.name"
            " AND m.digest = o.weights_digest AND m.parent = ANY(%(models)s::text[])))"
        )
        values["models"] = list(request.models)
    for number, (key, value) in enumerate(sorted(request.labels.items())):
        same = f"l.run = o.number AND l.key_digest = %(key_{number})b"
        same += f" AND l.text_digest = %(text_{number})b" if value else ""
        texts.append(f"EXISTS (SELECT FROM run_labels l WHERE {same})")
        values |= {f"key_{number}": digest(key), f"text_{number}": digest(value)}
    if request.HasField("ended_from"):
        texts.append("j.end_time >= %(ended_from)s")
        values["ended_from"] = moment_of(request.ended_from)
    return Condition("".join(f" AND {text}" for text in texts), values)


def _violations(request: registry_service_pb2.GetLeaderboardRequest) -> Iterator[Violation | None]:
    if request.task:
        yield names.check(request.task, names.TASK_VERSION, "task")
        text = f"is set beside `task`, which says it already: `{request.task[:200]}`. Leave it out."
        yield from (Violation(field, text) for field in ("dataset", "split") if getattr(request, field))
    else:
        yield names.check(request.dataset, names.DATASET, "dataset")
    for index, model in enumerate(request.models[:MAX_VALUES]):
        yield names.check(model, names.MODEL, f"models[{index}]")
    for name in ("models", "labels"):
        if (count := len(getattr(request, name))) > MAX_VALUES:
            yield Violation(name, f"has {count} entries; at most {MAX_VALUES}.")
    try:
        moment_of(request.ended_from)
    except (ValueError, OverflowError):
        yield Violation("ended_from", "is no time from the years 1 to 9999.")
    for key, value in parts_of(request).items():
        if len(value) > MAX_PART or not value.isprintable():
            yield Violation(key, _PART_FAULT)
