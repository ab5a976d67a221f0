"""Item scores, and the result that they add up to; pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from google.protobuf.duration_pb2 import Duration

from tunix_rt.answers.score import ItemOutcome, score_output
from tunix_rt.evaluator.messages import ItemDone
from tunix_rt.stats.intervals import wilson
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import EvaluationResult, ItemScore, OutcomeCounts, Score

CONFIDENCE = 0.95
_OUTCOMES = {
    "correct": ItemScore.CORRECT,
    "wrong": ItemScore.WRONG,
    "no_answer": ItemScore.NO_ANSWER,
    "truncated": ItemScore.TRUNCATED,
    "failed": ItemScore.FAILED,
}


def outcome_value(outcome: ItemOutcome) -> ItemScore.Outcome.ValueType:
    """The outcome as the API names it."""
    return _OUTCOMES[outcome.outcome]


def scored_item(trace: Trace, position: int, done: ItemDone) -> ItemScore:
    """The score of a generated item. `done.text` is its whole output."""
    outcome = score_output(
        done.text, trace.final_answer, trace.answer_type, trace.aliases, done.finish_reason
    )
    item = _item(trace, position)
    item.output = done.text
    item.extracted_answer = outcome.extracted or ""
    item.rule = outcome.rule if outcome.extracted is not None else ""
    item.outcome = outcome_value(outcome)
    item.score = outcome.score
    item.prompt_tokens = done.prompt_tokens
    item.completion_tokens = done.completion_tokens
    item.finish_reason = done.finish_reason
    item.latency.CopyFrom(_duration(done.latency_seconds))
    return item


def failed_item(trace: Trace, position: int) -> ItemScore:
    """The score of an item that could not be generated or scored."""
    item = _item(trace, position)
    item.outcome = ItemScore.FAILED
    return item


def score_of(correct: int, count: int) -> Score:
    """The share of correct items with its Wilson interval."""
    interval = wilson(correct, count, confidence=CONFIDENCE)
    return Score(
        mean=correct / count,
        low=interval.low,
        high=interval.high,
        confidence=CONFIDENCE,
        count=count,
        method="wilson",
    )


def summarise(
    items: Sequence[ItemScore], *, tokens_per_second: float, contaminated_count: int
) -> EvaluationResult:
    """The result of all items of an evaluation.

    `tokens_per_second` is the engine's rate over the rounds in which nothing was compiled, 0 if there
    were none. Items a second follow from it and the mean number of tokens of an item, because items
    that begin in a measured round and end in another one have no rate of their own.
    """
    outcomes = Counter(item.outcome for item in items)
    count, tokens = len(items), sum(item.completion_tokens for item in items)
    return EvaluationResult(
        score=score_of(outcomes[ItemScore.CORRECT], count),
        outcomes=OutcomeCounts(
            correct=outcomes[ItemScore.CORRECT],
            wrong=outcomes[ItemScore.WRONG],
            no_answer=outcomes[ItemScore.NO_ANSWER],
            truncated=outcomes[ItemScore.TRUNCATED],
            failed=outcomes[ItemScore.FAILED],
        ),
        extracted_rate=sum(bool(item.extracted_answer) for item in items) / count,
        stopped_rate=sum(item.finish_reason == "stop" for item in items) / count,
        completion_tokens=tokens,
        tokens_per_second=tokens_per_second,
        items_per_second=tokens_per_second * count / tokens if tokens else 0.0,
        contaminated_count=contaminated_count,
    )


def predictions_jsonl(items: Iterable[ItemScore]) -> bytes:
    """One line an item, by position; the same bytes for the same outputs, so without latencies."""
    lines = []
    for item in sorted(items, key=lambda each: each.position):
        record = {
            "id": item.trace_id,
            "position": item.position,
            "prompt": item.prompt,
            "prediction": item.output,
            "expected_answer": item.expected_answer,
            "extracted_answer": item.extracted_answer,
            "rule": item.rule,
            "outcome": ItemScore.Outcome.Name(item.outcome),
            "score": item.score,
            "prompt_tokens": item.prompt_tokens,
            "completion_tokens": item.completion_tokens,
            "finish_reason": item.finish_reason,
        }
        lines.append(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines).encode()


def _item(trace: Trace, position: int) -> ItemScore:
    return ItemScore(
        trace_id=trace.id, position=position, prompt=trace.prompt, expected_answer=trace.final_answer
    )


def _duration(seconds: float) -> Duration:
    made = Duration()
    made.FromMicroseconds(round(seconds * 1e6))
    return made
