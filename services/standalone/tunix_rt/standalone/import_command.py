"""`evaluations import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunix_rt.rpc.channel import new_request_id
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.standalone.connection import Connection, connect
from tunix_rt.standalone.evaluation_commands import (
    FormatOption,
    MaxTokensOption,
    MinPOption,
    RepetitionOption,
    SeedOption,
    StopOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
)
from tunix_rt.standalone.evaluation_views import evaluation_view
from tunix_rt.standalone.evaluation_wait import get_evaluation, wait_for_evaluation
from tunix_rt.standalone.options import GatewayOption, JsonOption
from tunix_rt.standalone.output import console, print_json
from tunix_rt.standalone.prediction_upload import predictions_of, send_predictions
from tunix_rt.standalone.resources import dataset_name, evaluation_name, predictor_name
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import evaluator_service_pb2 as evaluator_pb
from tunix_rt.v1 import job_pb2 as job_pb


def import_predictions(
    file: Annotated[Path, typer.Argument(help="JSONL: id, prediction; perhaps sample, finish_reason.")],
    *,
    predictor: Annotated[str, typer.Option("--predictor", help="The name of what made the outputs.")],
    dataset: Annotated[str, typer.Option("--dataset", help="The sealed dataset.")] = "",
    like: Annotated[
        str, typer.Option("--like", help="An evaluation whose settings hold where none are given.")
    ] = "",
    split: Annotated[str, typer.Option("--split", help="(default test)")] = "",
    limit: Annotated[int, typer.Option("--limit", help="Only the first items; 0 is all.")] = 0,
    max_tokens: MaxTokensOption = 0,
    temperature: TemperatureOption = 0.0,
    top_k: TopKOption = 0,
    top_p: TopPOption = 0.0,
    min_p: MinPOption = 0.0,
    repetition_penalty: RepetitionOption = 0.0,
    seed: SeedOption = 0,
    stop: StopOption = None,
    samples: Annotated[
        int, typer.Option("--samples", help="Outputs an item. (default: as many as the file has)")
    ] = 0,
    few_shot: Annotated[
        int, typer.Option("--few-shot", help="Examples that stood before each question.")
    ] = 0,
    few_shot_split: Annotated[
        str, typer.Option("--few-shot-split", help="Where they were drawn from. (default train)")
    ] = "",
    few_shot_seed: Annotated[int, typer.Option("--few-shot-seed", help="The seed of the draw.")] = 0,
    answer_pattern: Annotated[
        str, typer.Option("--answer-pattern", help="A regular expression that finds the answer.")
    ] = "",
    text_format: FormatOption = "",
    system_prompt: Annotated[str, typer.Option("--system-prompt")] = "",
    wait: Annotated[bool, typer.Option("--wait/--detach", help="Return when it is scored or queued.")] = True,
    gateway: GatewayOption = None,
    json: JsonOption = False,
) -> None:
    """Score predictions that were made elsewhere; the options say how they were made."""
    predictions = predictions_of(file)
    given = evaluation_pb.EvaluationSpec(
        subject=predictor_name(predictor),
        dataset=dataset_name(dataset) if dataset or not like else "",
        split=split,
        decoding=evaluation_pb.Decoding(
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop=stop,
        ),
        format=text_format,
        system_prompt=system_prompt,
        limit=limit,
        samples=samples,
        answer_pattern=answer_pattern,
    )
    if few_shot or few_shot_split or few_shot_seed:
        given.few_shot.CopyFrom(
            evaluation_pb.FewShot(count=few_shot, split=few_shot_split, seed=few_shot_seed)
        )
    with connect(gateway) as connection:
        spec = _spec_like(connection, like, given) if like else given
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
