"""Evaluates without generating: the items' own texts are scored by their log-likelihood."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice

from tunix_rt.evaluator.engine_client import EngineClient, EngineModel
from tunix_rt.evaluator.evaluation_task import Scores
from tunix_rt.evaluator.messages import Finished, Item, ItemFailed, TextScored, TextToScore
from tunix_rt.evaluator.results import chosen_item, reference_item
from tunix_rt.jobs.evaluation_spec import MULTIPLE_CHOICE
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.traces.choices import answer_prefix, item_choices
from tunix_rt.traces.text import completion_text
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec, ItemScore

ITEMS_A_REQUEST = 256


@dataclass(frozen=True)
class TextItem:
    """An item of the split with the texts to score: its choices, or its completion."""

    trace: Trace
    texts: tuple[TextToScore, ...]

    @property
    def position(self) -> int:
        """Its position in the split."""
        return self.texts[0].number


def text_item(
    trace: Trace, position: int, messages: tuple[Mapping[str, str], ...], spec: EvaluationSpec
) -> TextItem:
    """What is to be scored of an item. Raises ValueError for one without choices, or without a completion.

    A choice stands where the answer of a completion without steps stands in the asked-for format.
    """
    if spec.method != MULTIPLE_CHOICE:
        text = TextToScore(position, messages, completion_text(trace, spec.format))
        return TextItem(trace, (text,))
    prefix = answer_prefix(spec.format)
    choices = enumerate(item_choices(trace).texts)
    texts = (TextToScore(position, messages, text, sample=at, prefix=prefix) for at, text in choices)
    return TextItem(trace, tuple(texts))


async def score_items(
    engine: EngineClient, model: EngineModel, items: Iterable[Item], *, scores: Scores
) -> float:
    """Scores the texts of the items; returns the tokens scored a second, 0 if not measured.

    The items are read a request at a time. An item fails with the first of its texts that cannot be
    scored.
    """
    tokens, seconds, compilations = 0, 0.0, 0
    every = _text_items(items, scores)
    while batch := list(islice(every, ITEMS_A_REQUEST)):
        finished = await _score_batch(engine, model, batch, scores)
        tokens, seconds = tokens + finished.measured_tokens, seconds + finished.measured_seconds
        compilations += finished.compilations
    get_logger().info(
        "texts scored",
        measured_tokens=tokens,
        measured_seconds=round(seconds, 3),
        compilations=compilations,
    )
    return tokens / seconds if seconds > 0 else 0.0


def _text_items(items: Iterable[Item], scores: Scores) -> Iterator[TextItem]:
    for item in items:
        try:
            yield text_item(
                scores.task.traces[item.number], item.number, tuple(item.messages), scores.task.spec
            )
        except ValueError as error:
            scores.fail((item.number, 0), str(error))


async def _score_batch(
    engine: EngineClient, model: EngineModel, batch: Sequence[TextItem], scores: Scores
) -> Finished:
    waiting = {item.position: item for item in batch}
    known: dict[int, dict[int, TextScored]] = {item.position: {} for item in batch}
    finished = Finished("", 0, 0.0)
    async with aclosing(engine.score_texts(model, [text for item in batch for text in item.texts])) as events:
        async for event in events:
            if isinstance(event, Finished):
                finished = event
            elif event.item not in waiting:
                continue  # another of its texts has failed
            elif isinstance(event, ItemFailed):
                del waiting[event.item]
                scores.fail((event.item, 0), event.message)
            else:
                known[event.item][event.sample] = event
                if len(known[event.item]) == len(waiting[event.item].texts):
                    item = waiting.pop(event.item)
                    scores.add(_score(item, known[event.item], scores.task.spec))
    return finished


def _score(item: TextItem, known: Mapping[int, TextScored], spec: EvaluationSpec) -> ItemScore:
    scored = [known[text.sample] for text in item.texts]
    if spec.method == MULTIPLE_CHOICE:
        return chosen_item(item.trace, scored, spec)
    return reference_item(item.trace, scored[0])
