"""Task versions: evaluation specs that never change, under a name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from tunix_rt.jobs.evaluation_spec import complete_evaluation, task_violations
from tunix_rt.jobs.tasks import fill_in
from tunix_rt.registry import datasets, requests, specs, versions
from tunix_rt.registry.database import Transaction
from tunix_rt.registry.messages import timestamp
from tunix_rt.registry.paging import newest_first
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import AlreadyExists, InvalidArgument, NotFound, Violation
from tunix_rt.v1 import evaluation_pb2, registry_service_pb2, task_pb2

MAX_DOCUMENT_BYTES = 128 * 1024
_OUTPUT_ONLY = ("name", "digest", "create_time")


async def create(
    tx: Transaction, request: registry_service_pb2.CreateTaskVersionRequest, *, now: datetime
) -> task_pb2.TaskVersion:
    """Stores a task version with its complete spec."""
    violations = _violations(request)
    if violations:
        raise InvalidArgument(violations)
    if made := await requests.recall(tx, request.request_id, request):
        return await get(tx, made)
    spec = complete_evaluation(request.task_version.spec)
    dataset = await datasets.get_sealed(tx, spec.dataset)
    specs.check_splits(dataset, spec, "task_version.spec")
    version_id = request.version_id or await versions.next_id(tx, "task_versions", request.parent)
    version = task_pb2.TaskVersion(
        name=f"{request.parent}/versions/{version_id}",
        spec=spec,
        digest=specs.board_key(spec, dataset.sha256),
        description=request.task_version.description,
        create_time=timestamp(now),
    )
    inserted = await tx.execute(
        "INSERT INTO task_versions (name, parent, digest, document, create_time) VALUES"
        " (%(name)s, %(parent)s, %(digest)s, %(document)s, %(now)s) ON CONFLICT DO NOTHING",
        name=version.name,
        parent=request.parent,
        digest=version.digest,
        document=version.SerializeToString(),
        now=now,
    )
    if not inserted:
        text = f"`{version.name}` exists and never changes. Choose another `version_id`, or leave it empty."
        raise AlreadyExists(version.name, text)
    await requests.remember(tx, request.request_id, version.name)
    return version


async def get(tx: Transaction, name: str, field: str = "name") -> task_pb2.TaskVersion:
    """A task version. Raises NotFound."""
    names.require(name, names.TASK_VERSION, field)
    row = await tx.one("SELECT document FROM task_versions WHERE name = %(name)s", name=name)
    if row is None:
        raise NotFound(name)
    return task_pb2.TaskVersion.FromString(row["document"])


async def list_page(
    tx: Transaction, request: registry_service_pb2.ListTaskVersionsRequest
) -> registry_service_pb2.ListTaskVersionsResponse:
    """A page of task versions, newest first."""
    if request.parent:
        names.require(request.parent, names.TASK, "parent")
    page = await newest_first(
        tx,
        "task_versions",
        request,
        columns="name, create_time, document",
        payload="document",
        parent=request.parent,
    )
    return registry_service_pb2.ListTaskVersionsResponse(
        task_versions=[task_pb2.TaskVersion.FromString(row["document"]) for row in page.rows],
        next_page_token=page.next_page_token,
    )


async def boards(tx: Transaction, name: str, field: str) -> list[str]:
    """The boards of the evaluations that measure what a task measures. Raises NotFound.

    Two where a default has been added since the task was made: evaluations from before are on the first.
    """
    version = await get(tx, name, field)
    dataset = await datasets.get_sealed(tx, version.spec.dataset)
    now = specs.board_key(complete_evaluation(version.spec), dataset.sha256)
    return list(dict.fromkeys([version.digest, now]))


async def names_of(tx: Transaction, boards: Iterable[str]) -> dict[str, list[str]]:
    """The names of the task versions of some boards, oldest first."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in await tx.all(
        "SELECT name, digest FROM task_versions WHERE digest = ANY(%(boards)s::text[])"
        " ORDER BY create_time, name",
        boards=list(boards),
    ):
        found[row["digest"]].append(row["name"])
    return found


async def fill_in_all(tx: Transaction, wanted: Iterable[tuple[str, evaluation_pb2.EvaluationSpec]]) -> None:
    """Fills in the specs that name a task, in place; each comes with its path.

    Raises NotFound, and InvalidArgument with every field that says something else than its task.
    """
    violations: list[Violation] = []
    for field, spec in wanted:
        if spec.task:
            filled, differing = fill_in(spec, await get(tx, spec.task, f"{field}.task"), field)
            spec.CopyFrom(filled)
            violations += differing
    if violations:
        raise InvalidArgument(violations)


def _violations(request: registry_service_pb2.CreateTaskVersionRequest) -> list[Violation]:
    version = request.task_version
    found = [
        names.check(request.parent, names.TASK, "parent"),
        names.check_id(request.version_id, "version_id"),
        requests.check_request_id(request.request_id),
        *task_violations(version.spec, "task_version.spec"),
    ]
    given = {descriptor.name for descriptor, _ in version.ListFields()}
    for field in _OUTPUT_ONLY:
        if field in given:
            found.append(Violation(f"task_version.{field}", "is output only; leave it out."))
    if version.ByteSize() > MAX_DOCUMENT_BYTES:
        text = f"has {version.ByteSize()} bytes; at most {MAX_DOCUMENT_BYTES} are kept."
        found.append(Violation("task_version", text))
    return [each for each in found if each]
