"""Sends the predictions of a file to the evaluator, and says in which line a fault is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc

from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.rpc.status import status_of, violations_of
from tunix_rt.standalone.connection import LONG_CALL_SECONDS, Connection
from tunix_rt.standalone.failures import CommandError
from tunix_rt.traces.jsonl import read_predictions
from tunix_rt.traces.predictions import Prediction
from tunix_rt.traces.trace import TraceError
from tunix_rt.traces.trace import Violation as Fault
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import evaluator_service_pb2 as evaluator_pb

Numbered = tuple[int, Prediction]

BATCH_PREDICTIONS = 1000
BATCH_BYTES = 2 * 1024 * 1024
_ROW = re.compile(r"predictions\[([0-9]+)\]\.(.+)")


def predictions_of(path: Path) -> list[Numbered]:
    """The predictions of a JSONL file with their lines. Raises TraceError, CommandError, OSError."""
    if path.is_dir():
        raise CommandError("FILE_UNUSABLE", f"{path} is a directory; give a JSONL file.")
    with path.open("rb") as stream:
        predictions = read_predictions(stream)
    if not predictions:
        raise TraceError([Fault(str(path), "has no predictions; it must have one JSON object a line.")])
    return predictions


def send_predictions(
    connection: Connection, first: evaluator_pb.ScorePredictionsRequest, predictions: Sequence[Numbered]
) -> evaluation_pb.Evaluation:
    """The queued evaluation of the predictions; `first` says all but these.

    Raises InvalidArgument that names the lines that the evaluator refuses.
    """
    try:
        return connection.evaluator.ScorePredictions(_requests(first, predictions), timeout=LONG_CALL_SECONDS)
    except grpc.RpcError as error:
        violations = violations_of(status_of(error))
        if not any(_ROW.fullmatch(field) for field, _ in violations):
            raise
        raise InvalidArgument(
            [Violation(_line(field, predictions), text) for field, text in violations]
        ) from error


def _line(field: str, predictions: Sequence[Numbered]) -> str:
    row = _ROW.fullmatch(field)
    return f"line {predictions[int(row[1])][0]}: {row[2]}" if row else field


def _requests(
    first: evaluator_pb.ScorePredictionsRequest, predictions: Sequence[Numbered]
) -> Iterator[evaluator_pb.ScorePredictionsRequest]:
    yield first
    batch: list[evaluator_pb.Prediction] = []
    room = BATCH_BYTES
    for _, prediction in predictions:
        message = evaluator_pb.Prediction(
            trace_id=prediction.item_id,
            output=prediction.output,
            sample=prediction.sample,
            finish_reason=prediction.finish_reason,
        )
        room -= message.ByteSize()
        if batch and (room < 0 or len(batch) == BATCH_PREDICTIONS):
            yield evaluator_pb.ScorePredictionsRequest(predictions=batch)
            batch, room = [], BATCH_BYTES - message.ByteSize()
        batch.append(message)
    yield evaluator_pb.ScorePredictionsRequest(predictions=batch)
