"""What people change of runs: texts, labels and tags, and whether lists show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from tunix_rt.jobs.run_fields import notes_violations, tag_violations
from tunix_rt.registry import run_index, runs
from tunix_rt.registry.database import Row, Transaction
from tunix_rt.registry.enqueue import MAX_JOB_BYTES
from tunix_rt.registry.lifecycle import State
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import FailedPrecondition, InvalidArgument, NotFound, Reason, Violation
from tunix_rt.v1 import job_service_pb2, registry_service_pb2, run_pb2

MAX_NAMES = 1000
CHANGEABLE = ("description", "notes", "labels", "tags", "parent")
_LABEL = "labels."


async def update(tx: Transaction, request: registry_service_pb2.UpdateRunRequest) -> run_pb2.Run:
    """Changes the fields that the mask names. Raises NotFound, and InvalidArgument for a cycle of parents."""
    paths = _check_update(request)
    given = request.run
    row = (await _lock(tx, [given.name]))[0]
    job = job_service_pb2.Job.FromString(row["labels"])
    if "labels" in paths:
        job.ClearField("labels")
        job.labels.update(given.labels)
    for path in paths:
        key = path.removeprefix(_LABEL)
        if path.startswith(_LABEL) and key in given.labels:
            job.labels[key] = given.labels[key]
        elif path.startswith(_LABEL):
            job.labels.pop(key, None)
    if "parent" in paths and given.parent:
        await _check_parent(tx, given.name, given.parent)
    description = given.description if "description" in paths else row["description"].decode()
    if (size := len(description.encode()) + job.ByteSize()) > MAX_JOB_BYTES:
        text = f"would have {size} bytes of description and labels; at most {MAX_JOB_BYTES}."
        raise InvalidArgument.of("run", text)
    await tx.execute(
        "UPDATE jobs SET labels = %(labels)s, description = %(description)s WHERE name = %(name)s",
        labels=job.SerializeToString(),
        description=description.encode(),
        name=given.name,
    )
    await tx.execute(
        "UPDATE runs SET search_text = %(text)s, notes = coalesce(%(notes)s::bytea, notes),"
        " tags = coalesce(%(tags)s::text[], tags), parent = coalesce(%(parent)s::text, parent)"
        " WHERE name = %(name)s",
        text=run_index.search_text(given.name, description),
        notes=given.notes.encode() if "notes" in paths else None,
        tags=sorted(given.tags) if "tags" in paths else None,
        parent=given.parent if "parent" in paths else None,
        name=given.name,
    )
    await run_index.set_labels(tx, row["number"], job.labels)
    return await runs.get(tx, given.name)


async def archive(tx: Transaction, wanted: Sequence[str], *, now: datetime) -> list[run_pb2.Run]:
    """Takes runs out of the usual lists; those that are archived stay as they are."""
    await _lock(tx, _check_names(wanted))
    return await _show(tx, wanted, "archive_time = coalesce(archive_time, %(now)s)", now=now)


async def unarchive(tx: Transaction, wanted: Sequence[str]) -> list[run_pb2.Run]:
    """Puts runs back into the usual lists."""
    await _lock(tx, _check_names(wanted))
    return await _show(tx, wanted, "archive_time = NULL")


async def delete(tx: Transaction, wanted: Sequence[str], *, now: datetime) -> list[run_pb2.Run]:
    """Marks runs as deleted. Raises FailedPrecondition, reason RUN_OPEN, unless all have ended."""
    for row in await _lock(tx, _check_names(wanted)):
        state = State(row["state"])
        if not state.terminal:
            raise FailedPrecondition(
                Reason.RUN_OPEN,
                f"Run `{row['name']}` is {state.name}; only runs that have ended can be deleted."
                " Cancel it with CancelRun, then delete it.",
                {"resource": row["name"], "state": state.name},
            )
    return await _show(tx, wanted, "delete_time = coalesce(delete_time, %(now)s)", now=now)


async def undelete(tx: Transaction, wanted: Sequence[str]) -> list[run_pb2.Run]:
    """Restores deleted runs. Raises FailedPrecondition, reason RUN_DELETED, once they are collected."""
    for row in await _lock(tx, _check_names(wanted)):
        if row["remove_time"]:
            raise FailedPrecondition(
                Reason.RUN_DELETED,
                f"Run `{row['name']}` cannot be restored: its metrics, logs and artifacts were collected."
                " Train it again.",
                {"resource": row["name"]},
            )
    return await _show(tx, wanted, "delete_time = NULL")


async def _lock(tx: Transaction, wanted: Sequence[str]) -> list[Row]:
    """The rows of runs and their jobs, locked in one order. Raises NotFound for the first that is missing."""
    rows = await tx.all(
        "SELECT j.name, j.state, j.labels, j.description, r.number, r.remove_time FROM jobs j"
        " JOIN runs r USING (name) WHERE j.name = ANY(%(names)s::text[]) ORDER BY r.number"
        " FOR NO KEY UPDATE OF j, r",
        names=list(wanted),
    )
    if absent := set(wanted) - {row["name"] for row in rows}:
        raise NotFound(next(name for name in wanted if name in absent))
    return rows


async def _show(tx: Transaction, wanted: Sequence[str], change: str, **values: object) -> list[run_pb2.Run]:
    await tx.execute(
        f"UPDATE runs SET {change} WHERE name = ANY(%(names)s::text[])", names=list(wanted), **values
    )
    await tx.execute(
        "UPDATE run_values v SET visibility = r.visibility FROM runs r"
        " WHERE r.name = ANY(%(names)s::text[]) AND v.run = r.number AND v.visibility <> r.visibility",
        names=list(wanted),
    )
    return await runs.get_all(tx, wanted)


async def _check_parent(tx: Transaction, name: str, parent: str) -> None:
    await runs.require(tx, parent, "run.parent")
    found = await tx.one(
        "WITH RECURSIVE above (name) AS (SELECT %(parent)s::text UNION"
        " SELECT r.parent FROM runs r JOIN above USING (name) WHERE r.parent <> '')"
        " SELECT 1 AS one FROM above WHERE name = %(name)s",
        parent=parent,
        name=name,
    )
    if found:
        text = f"is `{parent}`, which is `{name}` itself or comes from it; name another run."
        raise InvalidArgument.of("run.parent", text)


def _check_names(wanted: Sequence[str]) -> Sequence[str]:
    found = [names.check(name, names.RUN, f"names[{index}]") for index, name in enumerate(wanted[:MAX_NAMES])]
    if not 1 <= len(wanted) <= MAX_NAMES:
        found.append(Violation("names", f"are {len(wanted)}; give from 1 to {MAX_NAMES}."))
    if len(set(wanted)) < len(wanted):
        found.append(Violation("names", "name one twice; give each once."))
    if bad := [violation for violation in found if violation]:
        raise InvalidArgument(bad)
    return wanted


def _check_update(request: registry_service_pb2.UpdateRunRequest) -> set[str]:
    """The paths of the mask, `*` spelt out. Raises InvalidArgument that names all bad fields."""
    run, given = request.run, list(request.update_mask.paths)
    found = [names.check(run.name, names.RUN, "run.name"), *_mask_violations(given)]
    paths = {path for each in given for path in (CHANGEABLE if each == "*" else (each,))}
    if "notes" in paths:
        found += notes_violations(run.notes, "run.notes")
    if "tags" in paths:
        found += tag_violations(run.tags, "run.tags")
    if "parent" in paths and run.parent:
        found.append(names.check(run.parent, names.RUN, "run.parent"))
    if bad := [violation for violation in found if violation]:
        raise InvalidArgument(bad)
    return paths


def _mask_violations(paths: Sequence[str]) -> Iterable[Violation]:
    known = ", ".join(f"`{path}`" for path in CHANGEABLE)
    if not paths:
        yield Violation("update_mask", f"is required; it names the fields to change: {known}, `labels.KEY`.")
    for index, path in enumerate(paths):
        label = path.startswith(_LABEL) and len(path) > len(_LABEL)
        if path not in (*CHANGEABLE, "*") and not label:
            text = f"is `{path[:80]}`; it must be one of {known}, `labels.KEY`, or `*`."
            yield Violation(f"update_mask.paths[{index}]", text)
