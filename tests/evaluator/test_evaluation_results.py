"""Item scores, and what they add up to."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tunix_rt.evaluator.messages import ItemDone
from tunix_rt.evaluator.recorder import batch_size
from tunix_rt.evaluator.results import scored_item
from tunix_rt.scoring.formula_process import Limits
from tunix_rt.scoring.items import failed_item, predictions_jsonl
from tunix_rt.scoring.scorer import Scorer
from tunix_rt.scoring.summary import MAX_PARTS, share_score, summarise
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import EvaluationResult, EvaluationSpec, ItemScore, NamedScore

TRACE = Trace(id="t1", prompt="2 + 2?", final_answer="4")
SCORER = Scorer()
SPEC = EvaluationSpec(format="answer-line", samples=1)


@pytest.fixture(scope="module", autouse=True)
def _workers_end() -> Iterator[None]:
    yield
    SCORER.close()


def scored(
    text: str,
    reason: str = "stop",
    *,
    trace: Trace = TRACE,
    position: int = 0,
    sample: int = 0,
    spec: EvaluationSpec = SPEC,
) -> ItemScore:
    return scored_item(
        trace, ItemDone("r", position, text, reason, 11, 5, 0.125, sample=sample), spec, SCORER
    )


def result_of(
    outputs: list[ItemScore],
    traces: list[Trace],
    *,
    spec: EvaluationSpec = SPEC,
    train: tuple[Trace, ...] = (),
) -> EvaluationResult:
    return summarise(
        outputs, traces, spec=spec, train=train, tokens_per_second=30.0, contaminated_count=2, scorer=SCORER
    )


def sampled(*texts_of_items: list[str]) -> EvaluationResult:
    """The result of items whose answer is 4, each with these outputs."""
    traces = [Trace(id=f"t{at}", prompt="2 + 2?", final_answer="4") for at in range(len(texts_of_items))]
    outputs = [
        scored(text, trace=traces[position], position=position, sample=sample)
        for position, texts in enumerate(texts_of_items)
        for sample, text in enumerate(texts)
    ]
    spec = EvaluationSpec(format="answer-line", samples=len(texts_of_items[0]))
    return result_of(outputs, traces, spec=spec)


def means(named: list[NamedScore]) -> dict[str, float]:
    return {each.name: pytest.approx(each.score.mean) for each in named}


def test_a_right_answer_after_reasoning_is_correct() -> None:
    item = scored("2 + 2 = 4\nAnswer: 4", sample=3)
    assert (item.outcome, item.score, item.extracted_answer) == (ItemScore.CORRECT, 1.0, "4")
    assert (item.trace_id, item.prompt, item.expected_answer) == ("t1", "2 + 2?", "4")
    assert (item.prompt_tokens, item.completion_tokens, item.finish_reason) == (11, 5, "stop")
    assert (item.strict_score, item.sample) == (1.0, 3)
    assert (item.step_count, item.true_step_count) == (1, 1)
    assert item.latency.ToMilliseconds() == 125


def test_a_right_answer_in_another_form_is_not_strictly_right() -> None:
    item = scored("So it is \\boxed{4}, as 2 + 3 = 4.")
    assert (item.score, item.strict_score) == (1.0, 0.0)
    assert (item.step_count, item.true_step_count) == (1, 0)


def test_the_pattern_of_the_spec_takes_the_place_of_the_rules() -> None:
    spec = EvaluationSpec(format="answer-line", samples=1, answer_pattern=r"result <(\d+)>")
    item = scored("result <4>\nAnswer: 5", spec=spec)
    assert (item.outcome, item.extracted_answer) == (ItemScore.CORRECT, "4")
    assert scored("Answer: 4", spec=spec).outcome == ItemScore.NO_ANSWER


def test_a_comparison_past_its_deadline_is_failed_and_counted() -> None:
    long = "+".join(rf"\sin({n}x)" for n in range(1, 75))
    trace = Trace(id="t", prompt="√8?", final_answer=f"0+{long}", answer_type="expression")
    hurried = Scorer(Limits(cpu_seconds=0.01))
    done = ItemDone("r", 0, f"Answer: {long}", "stop", 11, 5, 0.125, sample=0)
    item = scored_item(trace, done, SPEC, hurried)
    hurried.close()
    assert (item.outcome, item.score, item.timed_out) == (ItemScore.FAILED, 0.0, True)
    assert (item.output, item.extracted_answer) == (f"Answer: {long}", long)
    result = result_of([item, scored("Answer: 4", position=1)], [trace, TRACE])
    assert (result.timed_out_rate, result.outcomes.failed, result.score.mean) == (0.5, 1, 0.5)


def test_outcomes_are_told_apart() -> None:
    outcomes = [scored("Answer: 5").outcome, scored("").outcome, scored("2 + 2 is", "length").outcome]
    assert outcomes == [ItemScore.WRONG, ItemScore.NO_ANSWER, ItemScore.TRUNCATED]


def test_the_result_counts_every_item() -> None:
    outputs = [
        scored("Answer: 4"),
        scored("Answer: 5", position=1),
        scored("hm, 2", "length", position=2),
        failed_item(TRACE, 3, 0),
    ]
    result = result_of(outputs, [TRACE] * 4)
    assert (result.score.mean, result.score.count, result.score.method) == (0.25, 4, "wilson")
    assert result.score.low == pytest.approx(0.0456, abs=1e-4)
    assert result.score.high == pytest.approx(0.6994, abs=1e-4)
    counts = result.outcomes
    assert (counts.correct, counts.wrong, counts.truncated, counts.failed) == (1, 1, 1, 1)
    assert (result.extracted_rate, result.stopped_rate, result.truncated_rate) == (0.5, 0.5, 0.25)
    assert result.timed_out_rate == 0
    assert (result.completion_tokens, result.tokens_per_second) == (15, 30.0)
    assert result.items_per_second == pytest.approx(8.0)  # 3.75 tokens an item
    assert result.contaminated_count == 2
    assert not result.pass_at_k
    assert not result.majority_at_k


def test_a_question_that_stands_several_times_counts_less_one() -> None:
    questions = ["2 + 2?", "3 + 1?", " 2+2", "1 + 3?", "2 + 2?"]
    traces = [Trace(id=f"t{at}", prompt=text, final_answer="4") for at, text in enumerate(questions)]
    outputs = [scored("4", trace=trace, position=at) for at, trace in enumerate(traces)]
    assert result_of(outputs, traces).duplicate_count == 2
    assert result_of(outputs[:2], traces).duplicate_count == 0


def test_strict_and_completed_scores_stand_beside_the_score() -> None:
    outputs = [
        scored("Answer: 4"),
        scored("\\boxed{4}", position=1),
        scored("\\boxed{5}", position=2),
        scored("hm", "length", position=3),
        scored("hm", "length", position=4),
    ]
    result = result_of(outputs, [TRACE] * 5)
    assert (result.score.mean, result.score.count) == (0.4, 5)
    assert (result.strict_score.mean, result.strict_score.count) == (0.2, 5)
    assert (result.completed_score.mean, result.completed_score.count) == (pytest.approx(2 / 3), 3)
    none_stopped = result_of([scored("hm", "length")], [TRACE])
    assert not none_stopped.HasField("completed_score")


def test_parts_are_the_sections_categories_families_and_difficulties() -> None:
    metas = [
        {"section": "sums", "category": "small", "difficulty": 1, "family": "a", "other": "x"},
        {"section": "sums", "category": "large", "difficulty": 2.0, "family": "b"},
        {"section": "words", "difficulty": 2.5, "family": ["no", "name"]},
    ]
    traces = [Trace(id=f"t{n}", prompt="?", final_answer="4", meta=meta) for n, meta in enumerate(metas)]
    outputs = [
        scored(text, trace=trace, position=n)
        for n, (text, trace) in enumerate(zip(["Answer: 4", "Answer: 5", "Answer: 4"], traces, strict=True))
    ]
    result = result_of(outputs, traces)
    assert [(part.name, part.score.mean, part.score.count) for part in result.parts] == [
        ("section=sums", 0.5, 2),
        ("section=words", 1.0, 1),
        ("category=large", 0.0, 1),
        ("category=small", 1.0, 1),
        ("family=a", 1.0, 1),
        ("family=b", 0.0, 1),
        ("difficulty=1", 1.0, 1),
        ("difficulty=2", 0.0, 1),
        ("difficulty=2.5", 1.0, 1),
    ]
    assert not result.HasField("clustered_score")  # one item has no family


def test_a_key_that_names_single_items_gives_no_parts() -> None:
    traces = [
        Trace(id=f"t{n}", prompt="?", final_answer="4", meta={"category": f"c{n}", "section": "s"})
        for n in range(MAX_PARTS + 1)
    ]
    outputs = [scored("Answer: 4", trace=trace, position=n) for n, trace in enumerate(traces)]
    assert [part.name for part in result_of(outputs, traces).parts] == ["section=s"]


def families_of(count: int, right: int) -> EvaluationResult:
    """The result of two items in each family; those of the first `right` families are right."""
    traces = [
        Trace(id=f"t{n}", prompt="?", final_answer="4", meta={"family": f"f{n // 2}"})
        for n in range(2 * count)
    ]
    outputs = [
        scored("Answer: 4" if n // 2 < right else "Answer: 5", trace=trace, position=n)
        for n, trace in enumerate(traces)
    ]
    return result_of(outputs, traces)


def test_errors_are_clustered_by_family() -> None:
    score = families_of(10, right=6).clustered_score
    # the mean is 0.6, the sums of residuals six times 0.8, four times -1.2: error sqrt(10/9 * 9.6) / 20
    assert (score.method, score.cluster_count, score.count) == ("clustered", 10, 20)
    assert score.mean == pytest.approx(0.6)
    assert score.low == pytest.approx(0.6 - 1.959964 * 0.1632993, abs=1e-6)
    assert score.high == pytest.approx(0.6 + 1.959964 * 0.1632993, abs=1e-6)


def test_few_families_give_no_clustered_score() -> None:
    assert not families_of(9, right=6).HasField("clustered_score")


def test_the_samples_of_an_item_are_averaged_first() -> None:
    result = sampled(
        ["Answer: 4", "Answer: 4", "Answer: 4", "Answer: 4"],
        ["Answer: 4", "Answer: 5", "Answer: 6", "Answer: 6"],
        ["Answer: 7", "Answer: 7", "Answer: 4", "Answer: 4.0"],
        ["Answer: 5", "Answer: 5", "Answer: 5", "Answer: 5"],
    )
    assert (result.score.mean, result.score.count, result.score.method) == (0.4375, 4, "bca")
    assert result.score.low < 0.4375 < result.score.high
    assert (result.outcomes.correct, result.outcomes.wrong) == (7, 9)
    # 1, then 1 - C(3,k)/C(4,k), 1 - C(2,k)/C(4,k), 0
    assert means(result.pass_at_k) == {
        "pass@1": (1 + 1 / 4 + 1 / 2) / 4,
        "pass@2": (1 + 1 / 2 + 5 / 6) / 4,
        "pass@4": 3 / 4,
    }
    # of four votes: all right; 6 wins; 4 and 7 are tied; all wrong
    assert means(result.majority_at_k)["majority@4"] == (1 + 0 + 1 / 2 + 0) / 4
    assert means(result.majority_at_k)["majority@1"] == 0.4375


def test_items_a_second_count_items_and_not_outputs() -> None:
    result = sampled(["Answer: 4", "Answer: 5"], ["Answer: 4", "Answer: 5"])
    assert result.completion_tokens == 20
    assert result.items_per_second == pytest.approx(3.0)  # 10 tokens an item at 30 tokens a second


def test_rules_without_a_model_answer_the_same_items() -> None:
    train = tuple(
        Trace(id=f"a{n}", prompt="?", final_answer=answer, answer_type="integer")
        for n, answer in enumerate(["4", "4", "7"])
    )
    traces = [
        Trace(id="t0", prompt="2 + 2?", final_answer="4", answer_type="integer"),
        Trace(id="t1", prompt="0 + 7?", final_answer="7", answer_type="integer"),
        Trace(id="t2", prompt="5 - 5?", final_answer="0", answer_type="integer"),
        Trace(id="t3", prompt="What?", final_answer="4", answer_type="integer"),
    ]
    outputs = [scored("Answer: 1", trace=trace, position=n) for n, trace in enumerate(traces)]
    baselines = result_of(outputs, traces, train=train).baselines
    assert means(baselines) == {"majority-answer": 0.5, "constant": 0.25, "number-in-question": 0.25}
    assert [each.score.method for each in baselines] == ["wilson"] * 3
    assert list(means(result_of(outputs, traces).baselines)) == ["number-in-question"]


def test_the_card_tells_of_right_answers_that_rest_on_false_steps() -> None:
    outputs = [
        scored("2 + 2 = 4\nAnswer: 4"),
        scored("2 + 1 = 4\nAnswer: 4", position=1),
        scored("I guess.\nAnswer: 4", position=2),
        failed_item(TRACE, 3, 0),
    ]
    card = result_of(outputs, [TRACE] * 4).reasoning
    assert (card.step_count, card.true_step_rate, card.right_for_wrong_reasons) == (2, 0.5, 1)
    assert (card.all_steps_true_rate, card.answer_follows_rate) == (0.5, 1.0)
    assert card.median_tokens == 5


def test_without_outputs_nothing_is_said_of_reasoning() -> None:
    assert not result_of([failed_item(TRACE, 0, 0)], [TRACE]).HasField("reasoning")


@pytest.mark.parametrize(
    ("values", "method"),
    [([1.0, 0.0, 1.0], "wilson"), ([0.5, 0.5, 0.5], "bca"), ([0.1] * 3, "bca"), ([0.0, 0.25, 1.0], "bca")],
)
def test_an_interval_holds_its_mean(values: list[float], method: str) -> None:
    score = share_score(values)
    assert score.method == method
    assert 0 <= score.low <= score.mean <= score.high <= 1


def test_scores_are_sent_in_calls_of_bounded_size() -> None:
    small, large = ItemScore(output="x"), ItemScore(output="x" * 3_000_000)
    assert batch_size([small] * 2000) == 500
    assert batch_size([large] * 4) == 1
    assert batch_size([ItemScore(output="x" * 9_000_000), small]) == 1
    assert batch_size([small, large, large]) == 2


def test_predictions_are_ordered_and_repeatable() -> None:
    first, second = scored("Answer: 4", position=0), scored("Answer: é", position=1)
    third = scored("Answer: 4", position=1, sample=1)
    lines = predictions_jsonl([third, second, first])
    assert lines == predictions_jsonl([first, second, third])
    records = [json.loads(line) for line in lines.decode().splitlines()]
    assert [(record["position"], record["sample"]) for record in records] == [(0, 0), (1, 0), (1, 1)]
    assert records[1]["prediction"] == "Answer: é"
    assert (records[0]["outcome"], records[0]["strict_score"]) == ("CORRECT", 1.0)
