"""What a run has left in the registry: its log, its samples, its artifacts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from tunix_rt.standalone.connection import CALL_SECONDS, LONG_CALL_SECONDS, Connection
from tunix_rt.standalone.follow import TERMINAL
from tunix_rt.standalone.output import new_table
from tunix_rt.standalone.views import size_text
from tunix_rt.v1 import artifact_pb2 as artifact_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1 import run_pb2 as run_pb

_WAIT_SECONDS = 10
Sample = dict[str, Any]


def log_lines(connection: Connection, name: str, *, follow: bool) -> Iterator[run_pb.LogLine]:
    """The lines of a log in the order in which they were stored; with `follow`, until the run has ended."""
    request = registry_pb.ListLogsRequest(name=name, page_size=10_000)
    if follow:
        request.wait.FromSeconds(_WAIT_SECONDS)
    while True:
        page = connection.registry.ListLogs(request, timeout=CALL_SECONDS + _WAIT_SECONDS)
        yield from page.lines
        request.resume_token = page.resume_token
        if not page.lines and (not follow or page.state in TERMINAL):
            return


def list_artifacts(connection: Connection, owner: str, kind: str = "") -> list[artifact_pb.Artifact]:
    """The artifacts of an owner, oldest first."""
    found: list[artifact_pb.Artifact] = []
    request = registry_pb.ListArtifactsRequest(owner=owner, kind=kind, page_size=1000)
    while True:
        page = connection.registry.ListArtifacts(request, timeout=CALL_SECONDS)
        found += page.artifacts
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found[::-1]


def artifact_table(artifacts: Sequence[artifact_pb.Artifact]) -> Table:
    """Artifacts with their steps and sizes."""
    table = new_table("artifact", "kind", "step", "attempt", "files", "size")
    for each in artifacts:
        step, size = str(each.step or ""), size_text(each.size_bytes)
        table.add_row(each.name, each.kind, step, str(each.attempt), str(len(each.files)), size)
    return table


def read_samples(connection: Connection, name: str, *, step: int | None, every_step: bool) -> list[Sample]:
    """The samples of a step, of the newest one, or of all, ordered by prompt and step.

    Where attempts sampled one step twice, the later attempt's count.
    """
    by_step = {each.step: each for each in list_artifacts(connection, name, "samples")}
    newest = max(by_step, default=0)
    wanted = sorted(by_step) if every_step else [newest if step is None else step]
    samples = [
        json.loads(line)
        for each in wanted
        if each in by_step
        for line in _read_text(connection, by_step[each].files[0].sha256).splitlines()
    ]
    return sorted(samples, key=lambda sample: (sample["index"], sample["step"]))


def sample_table(samples: Sequence[Sample]) -> Table:
    """Samples for people to read: the prompt once, then what was answered at each step."""
    table = new_table("prompt", "step", "output", "expected", lines=True)
    shown = -1
    for sample in samples:
        prompt = "" if sample["index"] == shown else sample["trace"] or sample["prompt"]
        shown = sample["index"]
        ending = "" if sample["finish_reason"] == "stop" else " …"
        output = Text(sample["output"]).append(ending, style="dim")
        table.add_row(Text(prompt), str(sample["step"]), output, Text(sample["expected"], style="dim"))
    return table


def _read_text(connection: Connection, sha256: str) -> str:
    request = registry_pb.ReadBlobRequest(sha256=sha256)
    chunks = connection.registry.ReadBlob(request, timeout=LONG_CALL_SECONDS)
    return b"".join(chunk.data for chunk in chunks).decode("utf-8")
