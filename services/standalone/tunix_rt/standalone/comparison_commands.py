"""`leaderboard` and `compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.comparison_views import comparison_view
from tunix_rt.standalone.connection import CALL_SECONDS, connect
from tunix_rt.standalone.leaderboard_views import is_filtered, leaderboard_view
from tunix_rt.standalone.options import GatewayOption, JsonOption, parse_labels
from tunix_rt.standalone.output import console, print_json
from tunix_rt.standalone.resources import dataset_name, subject_name, task_version_name
from tunix_rt.standalone.run_query import model_filter, set_time
from tunix_rt.v1 import gateway_service_pb2 as gateway_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb


def leaderboard(
    dataset: Annotated[str, typer.Argument(help="The dataset; else give --task.", metavar="DATASET")] = "",
    *,
    split: Annotated[str, typer.Option("--split", help="Only this split.")] = "",
    task: Annotated[str, typer.Option("--task", help="Only what measures the same as this task.")] = "",
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Only versions of this model and runs from it; may be repeated."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="Only with key=value, or key=; repeatable."),
    ] = None,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Only what ended then or later, as 2026-01-31.")
    ] = "",
    section: Annotated[str, typer.Option("--section", help="Rank by this section of the items.")] = "",
    category: Annotated[str, typer.Option("--category", help="Rank by this category of the items.")] = "",
    best_of_model: Annotated[
        bool, typer.Option("--best-of-model", help="One entry a model: the best of its runs and versions.")
    ] = False,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Rank what was evaluated on a dataset or by a task; only comparable evaluations share a board."""
    if bool(dataset) == bool(task) or (task and split):
        raise InvalidArgument.of(
            "dataset", "excludes --task, and --split needs a DATASET; give DATASET or --task."
        )
    request = registry_pb.GetLeaderboardRequest(
        split=split, section=section, category=category, best_of_model=best_of_model
    )
    request.dataset = dataset_name(dataset) if dataset else ""
    request.models.extend(model_filter(text) for text in model or ())
    request.labels.update(parse_labels(label or []))
    set_time(request.ended_from, since, "since")
    with connect(gateway) as connection:
        request.task = task_version_name(connection, task) if task else ""
        board = connection.registry.GetLeaderboard(request, timeout=CALL_SECONDS)
    if json:
        print_json(board)
    else:
        console.print(leaderboard_view(board, filtered=is_filtered(request)))


def compare(
    subjects: Annotated[
        list[str],
        typer.Argument(
            help="2 to 10 runs, models or predictors; the first is the baseline.", metavar="SUBJECT…"
        ),
    ],
    *,
    dataset: Annotated[
        str, typer.Option("--dataset", help="Whose evaluations; else the one all share.")
    ] = "",
    split: Annotated[str, typer.Option("--split", help="(default test)")] = "",
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Compare runs and model versions: paired test, figures, parameters, loss curves, changed items."""
    with connect(gateway) as connection:
        request = gateway_pb.CompareRunsRequest(
            subjects=[
                subject_name(connection, text, f"subjects[{index}]") for index, text in enumerate(subjects)
            ],
            dataset=dataset_name(dataset) if dataset else "",
            split=split,
        )
        comparison = connection.gateway.CompareRuns(request, timeout=CALL_SECONDS)
    if json:
        print_json(comparison)
    else:
        console.print(comparison_view(comparison))
