"""Resource names as people type them: a bare id where it is clear what it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc

from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, NotFound, Violation
from tunix_rt.standalone.connection import CALL_SECONDS, Connection
from tunix_rt.v1 import registry_service_pb2 as registry_pb

SUBJECTS = (names.MODEL_VERSION, names.RUN, names.PREDICTOR)


def dataset_name(text: str, field: str = "dataset") -> str:
    """`datasets/golden` for itself and for `golden`. Raises InvalidArgument."""
    return _name(text, names.DATASET, field)


def run_name(text: str, field: str = "run") -> str:
    """`runs/first` for itself and for `first`. Raises InvalidArgument."""
    return _name(text, names.RUN, field)


def evaluation_name(text: str, field: str = "evaluation") -> str:
    """`evaluations/first` for itself and for `first`. Raises InvalidArgument."""
    return _name(text, names.EVALUATION, field)


def predictor_name(text: str, field: str = "predictor") -> str:
    """`predictors/gpt-x` for itself and for `gpt-x`. Raises InvalidArgument."""
    return _name(text, names.PREDICTOR, field)


def model_name(text: str, field: str = "model") -> str:
    """`models/smollm2` for itself and for `smollm2`. Raises InvalidArgument."""
    return _name(text, names.MODEL, field)


def model_version_name(connection: Connection, text: str, field: str = "model") -> str:
    """The name of a version; for `models/smollm2` or `smollm2` that of the newest version.

    `smollm2@champion` is the version that an alias points to, `smollm2@v2` the one with this id.
    Raises InvalidArgument, NotFound.
    """
    if "@" in text or names.matches(text, names.MODEL_ALIAS):
        return _pointed_to(connection, text, field)

    def newest(parent: str) -> list[str]:
        request = registry_pb.ListModelVersionsRequest(parent=parent, page_size=1)
        page = connection.registry.ListModelVersions(request, timeout=CALL_SECONDS)
        return [version.name for version in page.model_versions]

    remedy = "Import it with `tunix-rt models import`; `tunix-rt models list` shows what exists."
    return _version_name(text, (names.MODEL, names.MODEL_VERSION), field, newest, remedy)


def alias_name(text: str, field: str = "alias") -> str:
    """`models/smollm2/aliases/champion` for itself and for `smollm2@champion`. Raises InvalidArgument."""
    parent, sign, alias = text.partition("@")
    name = f"{model_name(parent, field)}/aliases/{alias}" if sign and alias else text
    if names.matches(name, names.MODEL_ALIAS):
        return name
    raise InvalidArgument.of(field, f"is `{text[:200]}`; give MODEL@ALIAS, such as smollm2@champion.")


def lineage_name(connection: Connection, text: str, field: str = "name") -> str:
    """A model version, run, dataset or evaluation; a bare id is looked up as a run, then as a model."""
    if names.matches(text, names.DATASET) or names.matches(text, names.EVALUATION):
        return text
    return subject_name(connection, text, field)


def task_name(text: str, field: str = "name") -> str:
    """`tasks/sums` for itself and for `sums`. Raises InvalidArgument."""
    return _name(text, names.TASK, field)


def task_version_name(connection: Connection, text: str, field: str = "task") -> str:
    """The name of a version; for `tasks/sums` or `sums` that of the newest version.

    Raises InvalidArgument, NotFound.
    """

    def newest(parent: str) -> list[str]:
        request = registry_pb.ListTaskVersionsRequest(parent=parent, page_size=1)
        page = connection.registry.ListTaskVersions(request, timeout=CALL_SECONDS)
        return [version.name for version in page.task_versions]

    remedy = "`tunix-rt tasks list` shows what exists; `tunix-rt tasks add-builtin` adds the built-in ones."
    return _version_name(text, (names.TASK, names.TASK_VERSION), field, newest, remedy)


def subject_name(connection: Connection, text: str, field: str = "subject") -> str:
    """The name of a run, model version or predictor; a bare id is looked up as a run, then as a model.

    Raises InvalidArgument, NotFound.
    """
    if any(names.matches(text, pattern) for pattern in SUBJECTS):
        return text
    if names.matches(text, names.MODEL) or names.matches(text, names.MODEL_ALIAS) or "@" in text:
        return model_version_name(connection, text, field)
    if names.check_id(text, field) or not text:
        raise InvalidArgument([_explained(text, SUBJECTS, field)])
    try:
        request = registry_pb.GetRunRequest(name=f"runs/{text}")
        return connection.registry.GetRun(request, timeout=CALL_SECONDS).name
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
    try:
        return model_version_name(connection, text, field)
    except NotFound as error:
        raise NotFound(
            text,
            "It is neither a run nor a model; `tunix-rt runs list` and `tunix-rt models list` show them.",
        ) from error


def _pointed_to(connection: Connection, text: str, field: str) -> str:
    """The version of an alias, or of an id behind `@`. Raises InvalidArgument, NotFound."""
    alias = alias_name(text, field)
    version = alias.replace("/aliases/", "/versions/")
    for name in (alias, version):
        try:
            request = registry_pb.GetModelVersionRequest(name=name)
            return connection.registry.GetModelVersion(request, timeout=CALL_SECONDS).name
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
    remedy = "It is neither an alias nor a version; `tunix-rt models list` shows them."
    raise NotFound(text, remedy)


def _version_name(
    text: str, patterns: tuple[str, str], field: str, newest: Callable[[str], list[str]], remedy: str
) -> str:
    """The name of a version; for that or the id of its parent the first that `newest` finds there.

    `patterns` are those of parent and version. Raises InvalidArgument, and NotFound with the remedy.
    """
    of_parent, of_version = patterns
    if names.matches(text, of_version):
        return text
    if not names.matches(text, of_parent) and names.check_id(text, field):
        raise InvalidArgument([_explained(text, (of_version,), field)])
    parent = _name(text, of_parent, field)
    found = newest(parent)
    if not found:
        raise NotFound(parent, remedy)
    return found[0]


def _name(text: str, pattern: str, field: str) -> str:
    if names.matches(text, pattern):
        return text
    if text and names.check_id(text, field) is None:
        return f"{pattern.split('/')[0]}/{text}"
    raise InvalidArgument([_explained(text, (pattern,), field)])


def _explained(text: str, patterns: tuple[str, ...], field: str) -> Violation:
    violation = names.check_any(text, patterns, field)
    assert violation is not None
    if _looks_like_path(text):
        upload = "tunix-rt models import" if "models" in patterns[0] else "tunix-rt datasets create --file"
        return Violation(
            field, f"{violation.description} It looks like a path: upload it first with `{upload}`."
        )
    return violation


def _looks_like_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or text.endswith((".jsonl", ".gguf")) or Path(text).exists()
