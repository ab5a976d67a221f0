"""`evaluations list`, `show` and `verify`; `evaluations import` stands in its own module."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from typing import Annotated

import typer

from tunix_rt.standalone.connection import CALL_SECONDS, Connection, connect
from tunix_rt.standalone.evaluation_views import evaluation_table, evaluation_view, items_view
from tunix_rt.standalone.evaluation_wait import get_evaluation
from tunix_rt.standalone.import_command import import_predictions
from tunix_rt.standalone.leaderboard_views import verification_view
from tunix_rt.standalone.options import GatewayOption, JsonOption, LimitOption
from tunix_rt.standalone.output import console, message_dict, print_json
from tunix_rt.standalone.resources import (
    dataset_name,
    evaluation_name,
    subject_name,
    task_version_name,
)
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb

app = typer.Typer(help="List, show and verify evaluations; import predictions.", no_args_is_help=True)
app.command("import")(import_predictions)
_PAGE = 200
VERIFY_SECONDS = 600.0  # every output is scored again, and formulas take their time


class ItemKind(StrEnum):
    """Which items are shown."""

    ALL = "all"
    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no-answer"
    TRUNCATED = "truncated"
    SCORED = "scored"
    FAILED = "failed"
    FALSE_STEP = "false-step"


@app.command("list")
def list_evaluations(
    *,
    limit: LimitOption = 50,
    dataset: Annotated[str, typer.Option("--dataset", help="Only on this dataset.")] = "",
    subject: Annotated[
        str, typer.Option("--subject", help="Only of this run, model version or predictor.")
    ] = "",
    task: Annotated[str, typer.Option("--task", help="Only what measures the same as this task.")] = "",
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """List evaluations, newest first."""
    request = registry_pb.ListEvaluationsRequest(page_size=limit)
    request.dataset = dataset_name(dataset) if dataset else ""
    with connect(gateway) as connection:
        request.subject = subject_name(connection, subject) if subject else ""
        request.task = task_version_name(connection, task) if task else ""
        response = connection.registry.ListEvaluations(request, timeout=CALL_SECONDS)
    if json:
        print_json(response)
    elif response.evaluations:
        console.print(evaluation_table(response.evaluations))
    else:
        console.print("No evaluations. `tunix-rt evaluate SUBJECT --dataset DATASET` makes one.")


@app.command()
def show(
    evaluation: Annotated[str, typer.Argument(help="The evaluation.", metavar="EVALUATION")],
    *,
    items: Annotated[int, typer.Option("--items", min=0, max=1000, help="How many items to show.")] = 0,
    only: Annotated[ItemKind, typer.Option("--only", help="Which of the items.")] = ItemKind.ALL,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Show an evaluation: scores, reasoning, parts, and items where asked for."""
    name = evaluation_name(evaluation)
    with connect(gateway) as connection:
        found = get_evaluation(connection, name)
        fitting = (item for item in _items(connection, name) if is_kind(item, only))
        shown = list(islice(fitting, items))
    if json:
        print_json({"evaluation": message_dict(found), "items": [message_dict(item) for item in shown]})
        return
    console.print(evaluation_view(found))
    if shown:
        console.print(items_view(shown))
    elif items:
        console.print("No item fits.")


@app.command()
def verify(
    evaluation: Annotated[str, typer.Argument(help="The evaluation.", metavar="EVALUATION")],
    *,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Score the stored outputs of an evaluation again and compare; exits with 1 unless it is verified."""
    name = evaluation_name(evaluation)
    with connect(gateway) as connection:
        request = registry_pb.VerifyEvaluationRequest(name=name)
        found = connection.registry.VerifyEvaluation(request, timeout=VERIFY_SECONDS)
    if json:
        print_json(found)
    else:
        console.print(verification_view(name, found))
    if not found.verified:
        raise typer.Exit(1)


def is_kind(item: evaluation_pb.ItemScore, kind: ItemKind) -> bool:
    """Whether an item ended that way, or has a step that is false."""
    if kind == ItemKind.FALSE_STEP:
        return item.true_step_count < item.step_count
    outcome = kind.name
    return kind == ItemKind.ALL or item.outcome == evaluation_pb.ItemScore.Outcome.Value(outcome)


def _items(connection: Connection, name: str) -> Iterator[evaluation_pb.ItemScore]:
    """The items by position, read as they are needed."""
    request = registry_pb.ListItemScoresRequest(evaluation=name, page_size=_PAGE)
    while True:
        page = connection.registry.ListItemScores(request, timeout=CALL_SECONDS)
        yield from page.item_scores
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
