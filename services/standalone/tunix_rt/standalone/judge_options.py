"""How a judge is named on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from tunix_rt.rpc.names import ENDPOINT, matches
from tunix_rt.standalone.connection import Connection
from tunix_rt.standalone.resources import evaluation_name, subject_name
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb

JudgeOption = Annotated[str, typer.Option("--judge", help="A model version, a run, or endpoints/NAME.")]
JudgeModelOption = Annotated[str, typer.Option("--judge-model", help="The model to ask for at an endpoint.")]
RubricOption = Annotated[
    str, typer.Option("--rubric", help="What a right output is. (default: an equivalent answer)")
]


def named_judge(subject: str, model: str, rubric: str, calibration: str) -> evaluation_pb.Judge | None:
    """The judge of the options as they were given; None if none was."""
    if not (subject or model or rubric or calibration):
        return None
    named = evaluation_name(calibration) if calibration else ""
    return evaluation_pb.Judge(subject=subject, model=model, rubric=rubric, calibration=named)


def complete_judge(connection: Connection, spec: evaluation_pb.EvaluationSpec) -> None:
    """Gives the judge of a spec its full name. Raises InvalidArgument, NotFound."""
    if spec.HasField("judge"):
        judge = judge_message(connection, spec.judge.subject, spec.judge.model, spec.judge.rubric)
        spec.judge.subject = judge.subject


def judge_message(connection: Connection, subject: str, model: str, rubric: str) -> evaluation_pb.Judge:
    """The judge; names of endpoints stand for themselves. Raises InvalidArgument, NotFound."""
    if not matches(subject, ENDPOINT):
        subject = subject_name(connection, subject, "judge")
    return evaluation_pb.Judge(subject=subject, model=model, rubric=rubric)
