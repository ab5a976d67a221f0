"""The rules of what people write on runs, which trainer and registry share; pure."""

from __future__ import annotations

from collections.abc import Iterable

from tunix_rt.rpc import names
from tunix_rt.rpc.errors import Violation
from tunix_rt.v1 import job_service_pb2, run_pb2

MAX_NOTES_BYTES = 64 * 1024
MAX_TAGS = 50
MAX_TAG = 63


def run_field_violations(run: run_pb2.Run | job_service_pb2.Job, prefix: str) -> list[Violation]:
    """What is wrong with notes, tags, parent and sweep of a run, or of the job that makes it."""
    found = [*notes_violations(run.notes, f"{prefix}notes"), *tag_violations(run.tags, f"{prefix}tags")]
    for value, pattern, field in ((run.parent, names.RUN, "parent"), (run.sweep, names.SWEEP, "sweep")):
        if value and (violation := names.check(value, pattern, f"{prefix}{field}")):
            found.append(violation)
    return found


def notes_violations(notes: str, field: str) -> list[Violation]:
    """What is wrong with the notes of a run."""
    size = len(notes.encode())
    if size <= MAX_NOTES_BYTES:
        return []
    return [Violation(field, f"has {size} bytes; at most {MAX_NOTES_BYTES}.")]


def tag_violations(tags: Iterable[str], field: str) -> list[Violation]:
    """What is wrong with tags: words of printable characters, each once."""
    given = list(tags)
    found = [
        Violation(
            f"{field}[{index}]", f"is `{tag[:80]}`; give 1 to {MAX_TAG} printable characters, no space."
        )
        for index, tag in enumerate(given)
        if not 1 <= len(tag) <= MAX_TAG or not tag.isprintable() or any(map(str.isspace, tag))
    ]
    if len(given) > MAX_TAGS:
        found.append(Violation(field, f"has {len(given)} entries; at most {MAX_TAGS}."))
    if len(set(given)) < len(given):
        found.append(Violation(field, "names one twice; give each once."))
    return found
