"""`judges calibrate`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunix_rt.rpc.channel import new_request_id
from tunix_rt.standalone.connection import CALL_SECONDS, connect
from tunix_rt.standalone.evaluation_views import evaluation_view
from tunix_rt.standalone.evaluation_wait import wait_for_evaluation
from tunix_rt.standalone.judge_options import RubricOption, judge_message
from tunix_rt.standalone.options import GatewayOption, JsonOption
from tunix_rt.standalone.output import console, print_json
from tunix_rt.standalone.resources import dataset_name
from tunix_rt.v1 import evaluator_service_pb2 as evaluator_pb
from tunix_rt.v1 import job_pb2 as job_pb

app = typer.Typer(help="Measure how far a judge can be believed.", no_args_is_help=True)


@app.callback()
def _judges() -> None:
    """Keeps `calibrate` a command of its own."""


@app.command()
def calibrate(
    *,
    subject: Annotated[
        str, typer.Option("--subject", help="The judge: a model version, a run, or endpoints/NAME.")
    ],
    dataset: Annotated[str, typer.Option("--dataset", help="The sealed dataset.")],
    model: Annotated[str, typer.Option("--model", help="The model to ask for at an endpoint.")] = "",
    rubric: RubricOption = "",
    split: Annotated[str, typer.Option("--split", help="(default test)")] = "",
    limit: Annotated[int, typer.Option("--limit", help="Only the first items; 0 is all.")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="The seed of the corruptions.")] = 0,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it is queued.")] = False,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Ask a judge about right and corrupted answers, and say how far it agrees with the truth."""
    with connect(gateway) as connection:
        request = evaluator_pb.CalibrateJudgeRequest(
            judge=judge_message(connection, subject, model, rubric),
            dataset=dataset_name(dataset),
            split=split,
            limit=limit,
            seed=seed,
            request_id=new_request_id(),
        )
        made = connection.evaluator.CalibrateJudge(request, timeout=CALL_SECONDS)
        if not detach:
            made = wait_for_evaluation(connection, made.name, quiet=json)
    if json:
        print_json(made)
    elif detach:
        console.print(f"{made.name} is queued.")
    else:
        console.print(evaluation_view(made))
        if made.status.state == job_pb.JOB_STATE_SUCCEEDED:
            console.print(f"Use it with --judge-calibration {made.name}.")
    if not detach and made.status.state != job_pb.JOB_STATE_SUCCEEDED:
        raise typer.Exit(1)
