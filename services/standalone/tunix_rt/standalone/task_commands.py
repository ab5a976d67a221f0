"""`tasks create`, `add-builtin`, `list` and `show`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunix_rt.gateway.web.text import spec_text
from tunix_rt.rpc.channel import new_request_id
from tunix_rt.standalone.connection import CALL_SECONDS, connect
from tunix_rt.standalone.evaluation_commands import evaluation_spec
from tunix_rt.standalone.judge_options import complete_judge
from tunix_rt.standalone.options import GatewayOption, JsonOption, LimitOption
from tunix_rt.standalone.output import console, print_json
from tunix_rt.standalone.progress import count_bar
from tunix_rt.standalone.resources import task_name, task_version_name
from tunix_rt.standalone.spec_options import with_options_of
from tunix_rt.standalone.views import fields_table, task_table, time_text
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1 import task_pb2 as task_pb

app = typer.Typer(
    help="Create, list and show tasks: evaluations that everybody runs alike.", no_args_is_help=True
)


@app.command()
@with_options_of(evaluation_spec)
def create(
    name: Annotated[str, typer.Argument(help="The task's id, such as sums.", metavar="NAME")],
    *,
    version: Annotated[
        str, typer.Option("--version", help="The version's id; else the next of v1, v2, ….")
    ] = "",
    description: Annotated[str, typer.Option("--description")] = "",
    spec: evaluation_pb.EvaluationSpec,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Give an evaluation a name and version; it never changes."""
    request = registry_pb.CreateTaskVersionRequest(
        parent=task_name(name),
        version_id=version,
        task_version=task_pb.TaskVersion(spec=spec, description=description),
        request_id=new_request_id(),
    )
    with connect(gateway) as connection:
        complete_judge(connection, request.task_version.spec)
        made = connection.registry.CreateTaskVersion(request, timeout=CALL_SECONDS)
    _print(made, as_json=json)


@app.command("add-builtin")
def add_builtin(*, gateway: GatewayOption = None, json: JsonOption = False) -> None:
    """Add the built-in evaluation sets with a task each. Again, it adds only what is missing."""
    from tunix_rt.standalone.builtin_tasks import add_builtin_tasks
    from tunix_rt.traces.dataset_sources import EVAL_SETS

    with (
        connect(gateway) as connection,
        count_bar("Adding evaluation sets", len(EVAL_SETS), quiet=json) as advance,
    ):
        made = add_builtin_tasks(connection, advance=advance)
    if json:
        print_json(registry_pb.ListTaskVersionsResponse(task_versions=made))
        return
    console.print(task_table(made))
    console.print(f"Evaluate with `tunix-rt evaluate SUBJECT --task {made[0].name.split('/')[1]}`.")


@app.command("list")
def list_tasks(
    *,
    task: Annotated[str, typer.Option("--task", help="Only versions of this task.")] = "",
    limit: LimitOption = 50,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """List task versions, newest first."""
    request = registry_pb.ListTaskVersionsRequest(page_size=limit)
    request.parent = task_name(task, "task") if task else ""
    with connect(gateway) as connection:
        response = connection.registry.ListTaskVersions(request, timeout=CALL_SECONDS)
    if json:
        print_json(response)
    elif response.task_versions:
        console.print(task_table(response.task_versions))
    else:
        console.print("No tasks yet. `tunix-rt tasks add-builtin` adds the built-in evaluation sets.")


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A task version; of a task the newest is shown.", metavar="NAME")
    ],
    *,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a task measures and how."""
    with connect(gateway) as connection:
        request = registry_pb.GetTaskVersionRequest(name=task_version_name(connection, name, "name"))
        version = connection.registry.GetTaskVersion(request, timeout=CALL_SECONDS)
    _print(version, as_json=json)


def _print(version: task_pb.TaskVersion, *, as_json: bool) -> None:
    if as_json:
        print_json(version)
        return
    spec = version.spec
    rows = [
        ("description", version.description),
        ("dataset", spec.dataset),
        ("measures", spec_text(spec)),
        ("system prompt", spec.system_prompt),
        ("prompt template", spec.prompt_template),
        ("digest", version.digest),
        ("created", time_text(version.create_time)),
    ]
    console.print(f"[bold]{version.name}[/]")
    console.print(fields_table((label, value) for label, value in rows if value))
