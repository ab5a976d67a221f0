"""Outputs that were made elsewhere, as the engine would have told of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from tunix_rt.evaluator.evaluation_task import Scores
from tunix_rt.evaluator.messages import ItemDone, ItemFailed
from tunix_rt.jobs.models import Subject
from tunix_rt.traces.predictions import Prediction, parse_prediction
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec, ItemScore

_BATCH = 100  # outputs that are scored between two looks at the recorder


def imported_subject(spec: EvaluationSpec) -> Subject:
    """A subject without weights: the digest is that of the predictions, and no training is known."""
    return Subject(spec.subject, (), spec.predictions, ())


def imported_outputs(path: Path, traces: Sequence[Trace]) -> Iterator[ItemDone | ItemFailed]:
    """The outputs of a stored file, which has a line for every sample of every item.

    Tokens and latencies are 0: they were not measured.
    """
    positions = {trace.id: position for position, trace in enumerate(traces)}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            prediction = parse_prediction(json.loads(line), f"line {number}")
            position = positions[prediction.item_id]
            yield _event(prediction, position, has_answer=bool(traces[position].final_answer))


async def score_imported(path: Path, scores: Scores) -> None:
    """Scores the missing ones of the outputs in a stored file."""
    known = frozenset(scores.known)
    every = imported_outputs(path, scores.task.traces)
    outputs = (each for each in every if (each.item, each.sample) not in known)
    while batch := await asyncio.to_thread(_score_some, outputs, scores):
        for score in batch:
            scores.add(score)


def _score_some(outputs: Iterator[ItemDone | ItemFailed], scores: Scores) -> list[ItemScore]:
    """The scores of the next outputs; empty after the last."""
    return [scores.of(each) for each in islice(outputs, _BATCH)]


def _event(prediction: Prediction, position: int, *, has_answer: bool) -> ItemDone | ItemFailed:
    if prediction.finish_reason == "error":
        return ItemFailed("", position, "nothing could be generated elsewhere", prediction.sample)
    if not has_answer:
        return ItemFailed("", position, "there is no answer to score by", prediction.sample)
    return ItemDone(
        "",
        position,
        prediction.output,
        prediction.finish_reason,
        prompt_tokens=0,
        completion_tokens=0,
        latency_seconds=0.0,
        sample=prediction.sample,
    )
