"""`runs update`, `archive`, `unarchive`, `delete`, `restore` and `gc`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.connection import CALL_SECONDS, LONG_CALL_SECONDS, connect
from tunix_rt.standalone.options import GatewayOption, JsonOption, parse_labels
from tunix_rt.standalone.output import console, print_json
from tunix_rt.standalone.resources import run_name
from tunix_rt.standalone.views import size_text
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1 import run_pb2 as run_pb

DAY_SECONDS = 86_400
Texts = list[str] | None
RunsArgument = Annotated[list[str], typer.Argument(help="The runs.", metavar="RUN...")]


def update(
    run: Annotated[str, typer.Argument(help="The run.", metavar="RUN")],
    *,
    description: Annotated[str | None, typer.Option("--description")] = None,
    notes: Annotated[str | None, typer.Option("--notes", help="Markdown; @FILE reads a file.")] = None,
    label: Annotated[Texts, typer.Option("--label", help="key=value to set; repeatable.")] = None,
    remove_label: Annotated[Texts, typer.Option("--remove-label", help="A key; repeatable.")] = None,
    tag: Annotated[
        Texts, typer.Option("--tag", help="The tags, in place of the old ones; repeatable.")
    ] = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Remove all tags.")] = False,
    parent: Annotated[str | None, typer.Option("--parent", help="A run; empty removes it.")] = None,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Change what people wrote on a run; only what is given changes."""
    made = run_pb.Run(name=run_name(run), labels=parse_labels(label or []), tags=tag or [])
    paths = [f"labels.{key}" for key in [*made.labels, *(remove_label or [])]]
    if description is not None:
        made.description = description
        paths.append("description")
    if notes is not None:
        made.notes = read_notes(notes)
        paths.append("notes")
    if tag or no_tags:
        paths.append("tags")
    if parent is not None:
        made.parent = run_name(parent, "parent") if parent else ""
        paths.append("parent")
    request = registry_pb.UpdateRunRequest(run=made)
    request.update_mask.paths.extend(paths)
    with connect(gateway) as connection:
        changed = connection.registry.UpdateRun(request, timeout=CALL_SECONDS)
    if json:
        print_json(changed)
    else:
        console.print(f"{changed.name}: {', '.join(paths)} changed.", markup=False)


def archive(runs: RunsArgument, *, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Take runs out of the usual lists."""
    with connect(gateway) as connection:
        request = registry_pb.ArchiveRunsRequest(names=[run_name(run) for run in runs])
        _told(connection.registry.ArchiveRuns(request, timeout=CALL_SECONDS), "archived", json=json)


def unarchive(runs: RunsArgument, *, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Put archived runs back into the usual lists."""
    with connect(gateway) as connection:
        request = registry_pb.UnarchiveRunsRequest(names=[run_name(run) for run in runs])
        _told(
            connection.registry.UnarchiveRuns(request, timeout=CALL_SECONDS), "back in the lists", json=json
        )


def delete(runs: RunsArgument, *, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Delete runs that have ended; `runs restore` brings them back until `runs gc --remove`."""
    with connect(gateway) as connection:
        request = registry_pb.DeleteRunsRequest(names=[run_name(run) for run in runs])
        _told(connection.registry.DeleteRuns(request, timeout=CALL_SECONDS), "deleted", json=json)


def restore(runs: RunsArgument, *, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Restore deleted runs."""
    with connect(gateway) as connection:
        request = registry_pb.UndeleteRunsRequest(names=[run_name(run) for run in runs])
        _told(connection.registry.UndeleteRuns(request, timeout=CALL_SECONDS), "restored", json=json)


def collect_garbage(
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Remove it; else only say what it is.")] = False,
    min_age_days: Annotated[
        float, typer.Option("--min-age-days", min=0, help="Only what was deleted or stored so long ago.")
    ] = 7.0,
    archived_days: Annotated[
        float | None,
        typer.Option("--archived-days", min=0, help="First delete runs archived so many days ago."),
    ] = None,
    checkpoint_days: Annotated[
        float | None,
        typer.Option(
            "--checkpoint-days", min=0, help="Also remove checkpoints of runs that succeeded so long ago."
        ),
    ] = None,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Show, or remove, what deleted runs leave and stored bytes that nothing names."""
    request = registry_pb.CollectGarbageRequest(
        remove=remove,
        min_age=_days(min_age_days),
        archived_age=_days(archived_days),
        checkpoint_age=_days(checkpoint_days),
    )
    with connect(gateway) as connection:
        found = connection.registry.CollectGarbage(request, timeout=LONG_CALL_SECONDS)
    if json:
        print_json(found)
        return
    what = (
        f"{len(found.runs)} runs with {found.artifact_count} artifacts, and {found.blob_count} stored files"
        f" ({size_text(found.size_bytes)})"
    )
    console.print(f"{what} were removed." if remove else f"{what} would be removed by --remove.")
    for name in found.runs:
        console.print(f"  {name}", markup=False)
    would = "were" if remove else "would be"
    if checkpoint_days is not None:
        console.print(f"Of succeeded runs {found.checkpoint_count} checkpoints {would} removed.")
    if archived_days is not None:
        console.print(f"{len(found.expired_runs)} archived runs {would} deleted; they can be restored yet.")
        for name in found.expired_runs:
            console.print(f"  {name}", markup=False)


def _days(days: float | None) -> Duration | None:
    if days is None:
        return None
    made = Duration()
    made.FromMilliseconds(round(days * DAY_SECONDS * 1000))
    return made


def read_notes(text: str) -> str:
    """The text itself, or what stands in the file after `@`. Raises InvalidArgument."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument.of("notes", f"is `{text}`, which cannot be read: {error}.") from error


def _told(
    answer: registry_pb.ArchiveRunsResponse
    | registry_pb.UnarchiveRunsResponse
    | registry_pb.DeleteRunsResponse
    | registry_pb.UndeleteRunsResponse,
    what: str,
    *,
    json: bool,
) -> None:
    if json:
        print_json(answer)
        return
    for run in answer.runs:
        console.print(f"{run.name} is {what}.", markup=False)
