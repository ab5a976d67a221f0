"""What people change of datasets: texts, labels, and whether they are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from tunix_rt.registry import datasets
from tunix_rt.registry.database import Transaction
from tunix_rt.registry.dataset_rules import MAX_DOCUMENT_BYTES
from tunix_rt.registry.messages import timestamp
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, Reason, Violation
from tunix_rt.v1 import dataset_pb2, evaluation_pb2, model_pb2, registry_service_pb2, run_pb2, task_pb2

CHANGEABLE = ("description", "labels")
_LABEL = "labels."
_SHOWN_USERS = 5


async def update(tx: Transaction, request: registry_service_pb2.UpdateDatasetRequest) -> dataset_pb2.Dataset:
    """Changes the fields that the mask names. Raises NotFound, InvalidArgument, FailedPrecondition."""
    paths = _check_update(request)
    given = request.dataset
    dataset = await datasets.lock(tx, given.name)
    datasets.require_kept(dataset)
    if "description" in paths:
        dataset.description = given.description
    if "labels" in paths:
        dataset.ClearField("labels")
        dataset.labels.update(given.labels)
    for key in (path.removeprefix(_LABEL) for path in paths if path.startswith(_LABEL)):
        if key in given.labels:
            dataset.labels[key] = given.labels[key]
        else:
            dataset.labels.pop(key, None)
    if dataset.ByteSize() > MAX_DOCUMENT_BYTES:
        text = f"would have {dataset.ByteSize()} bytes without its traces; at most {MAX_DOCUMENT_BYTES}."
        raise InvalidArgument.of("dataset", text)
    await datasets.save(tx, dataset)
    return dataset


async def delete(tx: Transaction, name: str, *, now: datetime) -> dataset_pb2.Dataset:
    """Marks a dataset as deleted. Raises FailedPrecondition, reason DATASET_IN_USE, if something uses it."""
    dataset = await datasets.lock(tx, names.require(name, names.DATASET, "name"))
    if dataset.HasField("delete_time"):
        return dataset
    if users := await users_of(tx, name):
        shown = ", ".join(f"`{user}`" for user in users[:_SHOWN_USERS])
        more = len(users) - _SHOWN_USERS
        raise FailedPrecondition(
            Reason.DATASET_IN_USE,
            f"Dataset `{name}` is used by {shown}{f' and {more} more' if more > 0 else ''}."
            " Delete it when nothing uses it, or keep it.",
            {"resource": name, "users": ",".join(users[:_SHOWN_USERS]), "count": len(users)},
        )
    dataset.delete_time.CopyFrom(timestamp(now))
    await datasets.save(tx, dataset)
    return dataset


async def undelete(tx: Transaction, name: str) -> dataset_pb2.Dataset:
    """Restores a deleted dataset; one that is not deleted stays as it is."""
    dataset = await datasets.lock(tx, names.require(name, names.DATASET, "name"))
    dataset.ClearField("delete_time")
    await datasets.save(tx, dataset)
    return dataset


async def users_of(tx: Transaction, name: str) -> list[str]:
    """The names of what uses a dataset.

    These are runs and evaluations, in whatever role, task and model versions, and datasets that come from it.
    A run counts until it is collected, a dataset until it is deleted.
    """
    found = await tx.all(
        "SELECT p.dataset AS name FROM dataset_parents p JOIN datasets d ON d.name = p.dataset"
        " WHERE p.parent = %(name)s AND d.delete_time IS NULL ORDER BY 1",
        name=name,
    )
    users = [row["name"] for row in found]
    for table, column, message in _MESSAGES:
        rows = await tx.all(
            f"SELECT name, {column} AS document FROM {table} WHERE position(%(bytes)b::bytea IN {column}) > 0"
            f" {_LIVING.get(message, '')} ORDER BY name",
            bytes=name.encode(),
        )
        users += [row["name"] for row in rows if _names(message.FromString(row["document"]), name)]
    return users


_MESSAGES: Sequence[tuple[str, str, type[Message]]] = (
    ("jobs", "spec", run_pb2.RunSpec),
    ("jobs", "spec", evaluation_pb2.EvaluationSpec),
    ("task_versions", "document", task_pb2.TaskVersion),
    ("model_versions", "document", model_pb2.ModelVersion),
)
_LIVING: dict[type[Message], str] = {
    run_pb2.RunSpec: "AND kind = 'run'"
    " AND NOT EXISTS (SELECT FROM runs r WHERE r.name = jobs.name AND r.remove_time IS NOT NULL)",
    evaluation_pb2.EvaluationSpec: "AND kind = 'evaluation'",
}


def _names(message: Message, name: str) -> bool:
    """Whether a text of a message is this name."""
    return any(text == name for text in _texts(MessageToDict(message)))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _check_update(request: registry_service_pb2.UpdateDatasetRequest) -> set[str]:
    """The paths of the mask, `*` spelt out. Raises InvalidArgument that names all bad fields."""
    given = list(request.update_mask.paths)
    found = [names.check(request.dataset.name, names.DATASET, "dataset.name")]
    known = ", ".join(f"`{path}`" for path in CHANGEABLE)
    if not given:
        text = f"is required; it names the fields to change: {known}, `labels.KEY`."
        found.append(Violation("update_mask", text))
    for index, path in enumerate(given):
        if path not in (*CHANGEABLE, "*") and not (path.startswith(_LABEL) and len(path) > len(_LABEL)):
            text = f"is `{path[:80]}`; it must be one of {known}, `labels.KEY`, or `*`."
            found.append(Violation(f"update_mask.paths[{index}]", text))
    if bad := [violation for violation in found if violation]:
        raise InvalidArgument(bad)
    return {path for each in given for path in (CHANGEABLE if each == "*" else (each,))}
