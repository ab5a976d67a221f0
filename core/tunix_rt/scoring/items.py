"""The score of one output, made from what is stored of it; pure but for the scorer."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tunix_rt.answers.reasoning import check_reasoning
from tunix_rt.answers.score import ItemOutcome
from tunix_rt.scoring.scorer import Scorer
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


def item_of(trace: Trace, position: int, sample: int) -> ItemScore:
    """An item without a score."""
    return ItemScore(
        trace_id=trace.id,
        position=position,
        sample=sample,
        prompt=trace.prompt,
        expected_answer=trace.final_answer,
    )


def failed_item(trace: Trace, position: int, sample: int) -> ItemScore:
    """The score of an output that could not be generated or scored."""
    item = item_of(trace, position, sample)
    item.outcome = ItemScore.FAILED
    return item


def score_output_of(item: ItemScore, trace: Trace, spec: EvaluationSpec, scorer: Scorer) -> None:
    """Scores `output` with `finish_reason`, both of the item, in place. Raises as `Scorer.score`."""
    outcome = scorer.score(
        item.output,
        trace.final_answer,
        trace.answer_type,
        trace.aliases,
        item.finish_reason,
        format=spec.format,
        pattern=spec.answer_pattern,
    )
    reasoning = check_reasoning(item.output, outcome.extracted, spec.format)
    item.extracted_answer = outcome.extracted or ""
    item.rule = outcome.rule if outcome.extracted is not None else ""
    item.outcome = outcome_value(outcome)
    item.score, item.strict_score = outcome.score, outcome.strict_score
    item.timed_out = outcome.timed_out
    item.step_count, item.true_step_count = reasoning.steps, reasoning.true_steps


def score_choices_of(item: ItemScore, trace: Trace, spec: EvaluationSpec) -> None:
    """Scores the log-likelihoods of `choices`, which are the item's in their order, in place.

    Right is the choice that the answer names. Raises ValueError for a trace without choices.
    """
    choices = item_choices(trace)
    values = [choice.log_likelihood for choice in item.choices]
    chosen = likeliest_choice(values, choices.texts, spec.normalization)
    right, expected = chosen == choices.expected, item.choices[choices.expected]
    item.extracted_answer, item.rule = choices.texts[chosen], LIKELIHOOD_RULE
    item.outcome = ItemScore.CORRECT if right else ItemScore.WRONG
    item.score = item.strict_score = float(right)
    item.log_likelihood, item.completion_tokens = expected.log_likelihood, expected.token_count


def score_reference_of(item: ItemScore) -> None:
    """Scores `log_likelihood` and `completion_tokens` in place: the geometric mean probability of a token."""
    item.outcome = ItemScore.SCORED
    item.score = item.strict_score = mean_probability(item.log_likelihood, item.completion_tokens)


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
