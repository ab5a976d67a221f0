"""The score of an output, and outputs as lines of a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from google.protobuf.duration_pb2 import Duration

from tunix_rt.answers.reasoning import check_reasoning
from tunix_rt.answers.score import ItemOutcome
from tunix_rt.evaluator.messages import ItemDone, TextScored
from tunix_rt.evaluator.scorer import Scorer
from tunix_rt.stats.likelihood import mean_probability
from tunix_rt.traces.choices import item_choices, likeliest_choice
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec, ItemScore

LIKELIHOOD_RULE = "log-likelihood"
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


def scored_item(trace: Trace, done: ItemDone, spec: EvaluationSpec, scorer: Scorer) -> ItemScore:
    """The score of an output of an item. `done.text` is the whole output. Raises as `Scorer.score`."""
    outcome = scorer.score(
        done.text,
        trace.final_answer,
        trace.answer_type,
        trace.aliases,
        done.finish_reason,
        format=spec.format,
        pattern=spec.answer_pattern,
    )
    reasoning = check_reasoning(done.text, outcome.extracted, spec.format)
    item = _item(trace, done.item, done.sample)
    item.output = done.text
    item.extracted_answer = outcome.extracted or ""
    item.rule = outcome.rule if outcome.extracted is not None else ""
    item.outcome = outcome_value(outcome)
    item.score, item.strict_score = outcome.score, outcome.strict_score
    item.timed_out = outcome.timed_out
    item.step_count, item.true_step_count = reasoning.steps, reasoning.true_steps
    item.prompt_tokens = done.prompt_tokens
    item.completion_tokens = done.completion_tokens
    item.finish_reason = done.finish_reason
    item.cached = done.cached
    if done.latency_seconds:
        item.latency.CopyFrom(_duration(done.latency_seconds))
    return item


def chosen_item(trace: Trace, scored: Sequence[TextScored], spec: EvaluationSpec) -> ItemScore:
    """The score of a multiple-choice item; `scored` are its choices in their order.

    Right is the choice that the answer names.
    """
    choices = item_choices(trace)
    values = [each.log_likelihood for each in scored]
    chosen = likeliest_choice(values, choices.texts, spec.normalization)
    right, expected = chosen == choices.expected, scored[choices.expected]
    item = _item(trace, expected.item, 0)
    item.extracted_answer, item.rule = choices.texts[chosen], LIKELIHOOD_RULE
    item.outcome = ItemScore.CORRECT if right else ItemScore.WRONG
    item.score = item.strict_score = float(right)
    item.log_likelihood = expected.log_likelihood
    item.prompt_tokens, item.completion_tokens = expected.prompt_tokens, expected.token_count
    for text, each in zip(choices.texts, scored, strict=True):
        item.choices.add(text=text, log_likelihood=each.log_likelihood, token_count=each.token_count)
    return item


def reference_item(trace: Trace, scored: TextScored) -> ItemScore:
    """The score of an item's own completion: the geometric mean probability of its tokens."""
    item = _item(trace, scored.item, 0)
    item.outcome = ItemScore.SCORED
    item.score = item.strict_score = mean_probability(scored.log_likelihood, scored.token_count)
    item.log_likelihood = scored.log_likelihood
    item.prompt_tokens, item.completion_tokens = scored.prompt_tokens, scored.token_count
    return item


def failed_item(trace: Trace, position: int, sample: int) -> ItemScore:
    """The score of an output that could not be generated or scored."""
    item = _item(trace, position, sample)
    item.outcome = ItemScore.FAILED
    return item


def predictions_jsonl(items: Iterable[ItemScore]) -> bytes:
    """One line an output, by position and sample; without latencies, so equal outputs give equal bytes."""
    lines = []
    for item in sorted(items, key=lambda each: (each.position, each.sample)):
        record: dict[str, object] = {
            "id": item.trace_id,
            "position": item.position,
            "sample": item.sample,
            "prompt": item.prompt,
            "prediction": item.output,
            "expected_answer": item.expected_answer,
            "extracted_answer": item.extracted_answer,
            "rule": item.rule,
            "outcome": ItemScore.Outcome.Name(item.outcome),
            "score": item.score,
            "strict_score": item.strict_score,
            "prompt_tokens": item.prompt_tokens,
            "completion_tokens": item.completion_tokens,
            "finish_reason": item.finish_reason or "error",
        }
        if item.HasField("log_likelihood"):
            record["log_likelihood"] = item.log_likelihood
        if item.choices:
            record["choices"] = [
                {"text": each.text, "log_likelihood": each.log_likelihood, "tokens": each.token_count}
                for each in item.choices
            ]
        lines.append(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines).encode()


def _item(trace: Trace, position: int, sample: int) -> ItemScore:
    return ItemScore(
        trace_id=trace.id,
        position=position,
        sample=sample,
        prompt=trace.prompt,
        expected_answer=trace.final_answer,
    )


def _duration(seconds: float) -> Duration:
    made = Duration()
    made.FromMicroseconds(round(seconds * 1e6))
    return made
