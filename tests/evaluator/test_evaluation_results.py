"""Item scores, and what they add up to."""

from __future__ import annotations

import json

import pytest

from tunix_rt.evaluator.messages import ItemDone
from tunix_rt.evaluator.recorder import batch_size
from tunix_rt.evaluator.results import failed_item, predictions_jsonl, scored_item, summarise
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import ItemScore

TRACE = Trace(id="t1", prompt="2 + 2?", final_answer="4")


def scored(text: str, reason: str = "stop", *, trace: Trace = TRACE, position: int = 0) -> ItemScore:
    return scored_item(trace, position, ItemDone("r", position, text, reason, 11, 5, 0.125))


def test_a_right_answer_after_reasoning_is_correct() -> None:
    item = scored("2 + 2 = 4\nAnswer: 4")
    assert (item.outcome, item.score, item.extracted_answer) == (ItemScore.CORRECT, 1.0, "4")
    assert (item.trace_id, item.prompt, item.expected_answer) == ("t1", "2 + 2?", "4")
    assert (item.prompt_tokens, item.completion_tokens, item.finish_reason) == (11, 5, "stop")
    assert item.latency.ToMilliseconds() == 125


def test_outcomes_are_told_apart() -> None:
    outcomes = [scored("Answer: 5").outcome, scored("").outcome, scored("2 + 2 is", "length").outcome]
    assert outcomes == [ItemScore.WRONG, ItemScore.NO_ANSWER, ItemScore.TRUNCATED]


def test_the_result_counts_every_item() -> None:
    items = [scored("Answer: 4"), scored("Answer: 5"), scored("hm, 2", "length"), failed_item(TRACE, 3)]
    result = summarise(items, tokens_per_second=30.0, contaminated_count=2)
    assert (result.score.mean, result.score.count, result.score.method) == (0.25, 4, "wilson")
    assert result.score.low == pytest.approx(0.0456, abs=1e-4)
    assert result.score.high == pytest.approx(0.6994, abs=1e-4)
    counts = result.outcomes
    assert (counts.correct, counts.wrong, counts.truncated, counts.failed) == (1, 1, 1, 1)
    assert (result.extracted_rate, result.stopped_rate) == (0.5, 0.5)
    assert (result.completion_tokens, result.tokens_per_second) == (15, 30.0)
    assert result.items_per_second == pytest.approx(8.0)  # 3.75 tokens an item
    assert result.contaminated_count == 2


def test_scores_are_sent_in_calls_of_bounded_size() -> None:
    small, large = ItemScore(output="x"), ItemScore(output="x" * 3_000_000)
    assert batch_size([small] * 2000) == 500
    assert batch_size([large] * 4) == 1
    assert batch_size([ItemScore(output="x" * 9_000_000), small]) == 1
    assert batch_size([small, large, large]) == 2


def test_predictions_are_ordered_and_repeatable() -> None:
    first, second = scored("Answer: 4", position=0), scored("Answer: é", position=1)
    lines = predictions_jsonl([second, first])
    assert lines == predictions_jsonl([first, second])
    records = [json.loads(line) for line in lines.decode().splitlines()]
    assert [record["position"] for record in records] == [0, 1]
    assert records[1]["prediction"] == "Answer: é"
    assert records[0]["outcome"] == "CORRECT"
