"""Evaluates without generating: the items' own texts are scored by their log-likelihood."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from tunix_rt.evaluator.engine_client import EngineClient, EngineModel
from tunix_rt.evaluator.messages import Finished, ItemFailed, TextScored, TextToScore
from tunix_rt.evaluator.results import chosen_item, reference_item
from tunix_rt.jobs.evaluation_spec import MULTIPLE_CHOICE
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
    engine: EngineClient,
    model: EngineModel,
    items: Sequence[TextItem],
    *,
    spec: EvaluationSpec,
    record: Callable[[ItemScore], None],
    fail: Callable[[int, str], None],
) -> float:
    """Records each item's score as it is known; returns the tokens scored a second, 0 if not measured.

    An item fails, by its position, with the first of its texts that cannot be scored.
    """
    tokens, seconds = 0, 0.0
    for start in range(0, len(items), ITEMS_A_REQUEST):
        batch = items[start : start + ITEMS_A_REQUEST]
        waiting = {item.position: item for item in batch}
        known: dict[int, dict[int, TextScored]] = {item.position: {} for item in batch}
        texts = [text for item in batch for text in item.texts]
        async with aclosing(engine.score_texts(model, texts)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    tokens, seconds = tokens + event.measured_tokens, seconds + event.measured_seconds
                elif event.item not in waiting:
                    continue  # another of its texts has failed
                elif isinstance(event, ItemFailed):
                    del waiting[event.item]
                    fail(event.item, event.message)
                else:
                    known[event.item][event.sample] = event
                    if len(known[event.item]) == len(waiting[event.item].texts):
                        record(_score(waiting.pop(event.item), known[event.item], spec))
    return tokens / seconds if seconds > 0 else 0.0


def _score(item: TextItem, known: Mapping[int, TextScored], spec: EvaluationSpec) -> ItemScore:
    scored = [known[text.sample] for text in item.texts]
    if spec.method == MULTIPLE_CHOICE:
        return chosen_item(item.trace, scored, spec)
    return reference_item(item.trace, scored[0])
