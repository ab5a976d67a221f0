"""`evaluations import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunix_rt.rpc.channel import new_request_id
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.connection import Connection, connect
from tunix_rt.standalone.evaluation_commands import evaluation_spec
from tunix_rt.standalone.evaluation_views import evaluation_view
from tunix_rt.standalone.evaluation_wait import get_evaluation, wait_for_evaluation
from tunix_rt.standalone.options import GatewayOption, JsonOption
from tunix_rt.standalone.output import console, print_json
from tunix_rt.standalone.prediction_upload import predictions_of, send_predictions
from tunix_rt.standalone.resources import evaluation_name, predictor_name, task_version_name
from tunix_rt.standalone.spec_options import with_options_of
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import evaluator_service_pb2 as evaluator_pb
from tunix_rt.v1 import job_pb2 as job_pb


@with_options_of(evaluation_spec)
def import_predictions(
    file: Annotated[Path, typer.Argument(help="JSONL: id, prediction; perhaps sample, finish_reason.")],
    *,
    predictor: Annotated[str, typer.Option("--predictor", help="The name of what made the outputs.")],
    like: Annotated[
        str, typer.Option("--like", help="An evaluation whose settings hold where none are given.")
    ] = "",
    task: Annotated[str, typer.Option("--task", help="The task that the outputs were made for.")] = "",
    spec: evaluation_pb.EvaluationSpec,
    wait: Annotated[bool, typer.Option("--wait/--detach", help="Return when it is scored or queued.")] = True,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Score predictions that were made elsewhere; the options say how they were made.

    Where nothing says how many samples an item has, it has as many as the file.
    """
    predictions = predictions_of(file)
    if not (spec.dataset or like or task):
        text = "is required without a task and an evaluation. Give --dataset, --task or --like."
        raise InvalidArgument.of("dataset", text)
    spec.subject = predictor_name(predictor)
    with connect(gateway) as connection:
        spec = _spec_like(connection, like, spec) if like else spec
        spec.task = task_version_name(connection, task) if task else ""
        if not task:
            spec.samples = spec.samples or 1 + max(prediction.sample for _, prediction in predictions)
        first = evaluator_pb.ScorePredictionsRequest(
            evaluation=evaluation_pb.Evaluation(spec=spec), request_id=new_request_id()
        )
        made = send_predictions(connection, first, predictions)
        if wait:
            made = wait_for_evaluation(connection, made.name, quiet=json)
    if json:
        print_json(made)
    elif wait:
        console.print(evaluation_view(made))
    else:
        console.print(f"{made.name} is queued.")
    if wait and made.status.state != job_pb.JOB_STATE_SUCCEEDED:
        raise typer.Exit(1)


def _spec_like(
    connection: Connection, like: str, given: evaluation_pb.EvaluationSpec
) -> evaluation_pb.EvaluationSpec:
    """The spec of an evaluation, with what was given in its place."""
    spec = evaluation_pb.EvaluationSpec()
    spec.CopyFrom(get_evaluation(connection, evaluation_name(like, "like")).spec)
    if spec.method not in ("", "generation"):
        raise InvalidArgument.of("like", f"is `{like}`, which measures `{spec.method}` and has no outputs.")
    for field in ("allow_contamination", "predictions", "task", "judge"):
        spec.ClearField(field)
    if given.decoding.stop:
        spec.decoding.ClearField("stop")
    spec.MergeFrom(given)
    return spec
