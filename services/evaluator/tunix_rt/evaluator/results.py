"""The score of an output as the engine tells of it."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from tunix_rt.evaluator.messages import ItemDone, TextScored
from tunix_rt.scoring.items import item_of, score_choices_of, score_output_of, score_reference_of
from tunix_rt.scoring.scorer import Scorer
from tunix_rt.traces.choices import item_choices
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec, ItemScore


def scored_item(trace: Trace, done: ItemDone, spec: EvaluationSpec, scorer: Scorer) -> ItemScore:
    """The score of an output of an item. `done.text` is the whole output. Raises as `Scorer.score`."""
    item = item_of(trace, done.item, done.sample)
    item.output = done.text
    item.finish_reason = done.finish_reason
    score_output_of(item, trace, spec, scorer)
    item.prompt_tokens = done.prompt_tokens
    item.completion_tokens = done.completion_tokens
    item.cached = done.cached
    if done.latency_seconds:
        item.latency.CopyFrom(_duration(done.latency_seconds))
    return item


def chosen_item(trace: Trace, scored: Sequence[TextScored], spec: EvaluationSpec) -> ItemScore:
    """The score of a multiple-choice item; `scored` are its choices in their order."""
    choices = item_choices(trace)
    item = item_of(trace, scored[0].item, 0)
    item.prompt_tokens = scored[choices.expected].prompt_tokens
    for text, each in zip(choices.texts, scored, strict=True):
        item.choices.add(text=text, log_likelihood=each.log_likelihood, token_count=each.token_count)
    score_choices_of(item, trace, spec)
    return item


def reference_item(trace: Trace, scored: TextScored) -> ItemScore:
    """The score of an item's own completion."""
    item = item_of(trace, scored.item, 0)
    item.log_likelihood = scored.log_likelihood
    item.prompt_tokens, item.completion_tokens = scored.prompt_tokens, scored.token_count
    score_reference_of(item)
    return item


def _duration(seconds: float) -> Duration:
    made = Duration()
    made.FromMicroseconds(round(seconds * 1e6))
    return made
