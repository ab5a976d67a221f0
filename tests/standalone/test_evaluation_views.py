"""How evaluations look in the terminal."""

from __future__ import annotations

import pytest
from rich.console import Console, RenderableType

from tunix_rt.standalone.evaluation_views import (
    evaluation_table,
    evaluation_view,
    items_view,
    marked_output,
)
from tunix_rt.standalone.evaluations_commands import ItemKind, is_kind
from tunix_rt.v1 import evaluation_pb2 as pb2
from tunix_rt.v1 import job_pb2

KINDS = pb2.ItemScore


def rendered(renderable: RenderableType) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def score(mean: float, low: float, high: float, method: str = "wilson") -> pb2.Score:
    return pb2.Score(mean=mean, low=low, high=high, count=80, confidence=0.95, method=method)


def evaluation(
    result: pb2.EvaluationResult | None, state: int = job_pb2.JOB_STATE_SUCCEEDED
) -> pb2.Evaluation:
    return pb2.Evaluation(
        name="evaluations/e",
        spec=pb2.EvaluationSpec(subject="runs/a", dataset="datasets/d", split="test"),
        status=job_pb2.JobStatus(state=state),
        result=result,
    )


@pytest.fixture
def rich_result() -> pb2.EvaluationResult:
    result = pb2.EvaluationResult(
        score=score(0.5, 0.4, 0.6),
        strict_score=score(0.25, 0.2, 0.3),
        reasoning=pb2.ReasoningCard(step_count=812, true_step_rate=0.94, right_for_wrong_reasons=3),
        outcomes=pb2.OutcomeCounts(correct=40, wrong=40),
    )
    result.baselines.add(name="majority-answer", score=score(0.04, 0.01, 0.1))
    result.parts.add(name="family=sums", score=score(0.9, 0.8, 0.95))
    for k in (1, 2):
        result.pass_at_k.add(name=f"pass@{k}", score=score(0.5, 0.4, 0.6, "bca"))
    return result


def test_what_was_cut_or_timed_out_is_shown_where_it_was_counted() -> None:
    result = pb2.EvaluationResult(score=score(0.5, 0.4, 0.6), truncated_rate=0.25, timed_out_rate=0.02)
    made = evaluation(result)
    made.spec.scorer = "exact-answer@2"
    lines = [line.split() for line in rendered(evaluation_view(made)).splitlines()]
    assert ["cut", "at", "the", "limit", "25", "%"] in lines
    assert ["past", "a", "deadline", "2", "%", "of", "the", "items"] in lines
    made.spec.scorer = "exact-answer@1"
    assert "deadline" not in rendered(evaluation_view(made))


def test_duplicates_are_told_only_where_there_are_some(rich_result: pb2.EvaluationResult) -> None:
    assert "duplicates" not in rendered(evaluation_view(evaluation(rich_result)))
    rich_result.duplicate_count = 3
    assert "3 items ask what another item asks" in rendered(evaluation_view(evaluation(rich_result)))


def test_the_task_stands_beside_the_dataset(rich_result: pb2.EvaluationResult) -> None:
    made = evaluation(rich_result)
    made.spec.task = "tasks/sums/versions/v1"
    assert "runs/a on datasets/d by tasks/sums/versions/v1" in rendered(evaluation_view(made))


def test_a_result_shows_all_that_was_computed(rich_result: pb2.EvaluationResult) -> None:
    text = rendered(evaluation_view(evaluation(rich_result)))
    for part in (
        "evaluations/e runs/a on datasets/d", "50.0 % [40.0, 60.0] of 80 items (wilson)",
        "25.0 % [20.0, 30.0]",
        "majority-answer", "without a model", "94 % of 812 steps are true.",
        "3 right answers rest on a false step.", "family=sums", "pass@2",
    ):  # fmt: skip
        assert part in text


def test_an_older_result_has_no_empty_sections() -> None:
    text = rendered(evaluation_view(evaluation(pb2.EvaluationResult(score=score(0.5, 0.4, 0.6)))))
    for part in ("Scores", "strict", "without a model", "Reasoning", "Parts", "More samples"):
        assert part not in text


def test_the_score_of_all_items_is_marked_beside_that_of_a_part(rich_result: pb2.EvaluationResult) -> None:
    (line,) = [x for x in rendered(evaluation_view(evaluation(rich_result))).splitlines() if "family" in x]
    assert "··············┊········├──●─┤·" in line


def test_what_was_not_measured_of_predictions_is_a_dash() -> None:
    made = evaluation(pb2.EvaluationResult(score=score(0.5, 0.4, 0.6), reasoning=pb2.ReasoningCard()))
    made.spec.subject = "predictors/gpt-x"
    text = rendered(evaluation_view(made))
    assert "speed              –" in text
    assert "contaminated       not checked: what the predictor was trained on is not known" in text
    assert "tokens" not in text


def test_a_failed_evaluation_says_why() -> None:
    failed = evaluation(None, job_pb2.JOB_STATE_FAILED)
    failed.status.error.message = "The weights do not load."
    text = rendered(evaluation_view(failed))
    assert "failed" in text
    assert "The weights do not load." in text


def test_a_list_shows_a_score_only_where_there_is_one(rich_result: pb2.EvaluationResult) -> None:
    text = rendered(evaluation_table([evaluation(rich_result), evaluation(None, job_pb2.JOB_STATE_QUEUED)]))
    done, queued = [line for line in text.splitlines() if "evaluations/e" in line]
    assert "50.0 % [40.0, 60.0]" in done
    assert "queued" in queued
    assert queued.count("–") == 2


def test_false_steps_are_marked_in_an_output() -> None:
    text = marked_output("1 + 1 = 2 and 2 + 2 = 5")
    assert [text.plain[span.start : span.end] for span in text.spans] == ["2 + 2 = 5"]


def test_a_step_that_the_cut_makes_false_is_not_marked() -> None:
    text = marked_output("x" * 1989 + " 12 + 3 = 15 more")
    assert text.plain.endswith("12 + 3 = 1 …")
    assert text.spans == []


def test_items_are_shown_without_markup() -> None:
    item = KINDS(trace_id="a", prompt="[bold]2 + 2[/bold]", outcome=KINDS.NO_ANSWER, sample=1)
    text = rendered(items_view([item]))
    assert "[bold]2 + 2[/bold]" in text
    assert "no answer" in text
    assert "sample 2" in text


@pytest.mark.parametrize(
    ("kind", "fits"),
    [("all", True), ("correct", True), ("wrong", False), ("no-answer", False), ("false-step", True)],
)
def test_kinds_of_items(kind: str, fits: bool) -> None:
    item = KINDS(outcome=KINDS.CORRECT, step_count=2, true_step_count=1)
    assert is_kind(item, ItemKind(kind)) is fits


def test_outputs_from_the_cache_are_counted_and_have_no_speed(rich_result: pb2.EvaluationResult) -> None:
    rich_result.cached_count = 80
    lines = [line.split() for line in rendered(evaluation_view(evaluation(rich_result))).splitlines()]
    assert ["speed", "–"] in lines
    assert ["from", "the", "cache", "80", "outputs"] in lines

    text = rendered(evaluation_view(evaluation(rich_result)))
    assert "tokens/s" not in text
    assert "80 outputs" in text


def test_a_perplexity_is_shown_with_its_interval() -> None:
    result = pb2.EvaluationResult(
        score=score(0.25, 0.2, 0.3, "bca"),
        outcomes=pb2.OutcomeCounts(scored=80),
        likelihood=pb2.Likelihood(
            perplexity=4.5, perplexity_low=4.25, perplexity_high=5.0, bits_per_byte=0.63, token_count=900
        ),
    )
    made = evaluation(result)
    made.spec.method = "perplexity"
    text = rendered(evaluation_view(made))
    for part in (
        "token probability",
        "80 scored",
        "perplexity",
        "4.5 [4.25, 5]",
        "bits a byte",
        "900 tokens",
    ):
        assert part in text
    assert "answer found" not in text


def test_the_choices_of_an_item_are_shown() -> None:
    item = pb2.ItemScore(trace_id="q", outcome=KINDS.WRONG, extracted_answer="dog", log_likelihood=-2.0)
    item.choices.add(text="dog", log_likelihood=-1.25)
    item.choices.add(text="cat", log_likelihood=-2.0)
    text = rendered(items_view([item]))
    assert "-1.25  dog" in text
    assert "-2.00  cat" in text


def test_a_calibration_says_whether_its_judge_may_rank() -> None:
    found = pb2.JudgeCalibration(
        count=80,
        agreement=score(0.6, 0.5, 0.7),
        kappa=0.2,
        kappa_low=0.05,
        kappa_high=0.35,
        sensitivity=score(0.9, 0.8, 0.95),
        specificity=score(0.3, 0.2, 0.4),
        self_consistency=score(0.8, 0.7, 0.9),
        length_bias=-0.1,
        undecided_count=2,
        threshold=0.4,
    )
    text = rendered(evaluation_view(evaluation(pb2.EvaluationResult(calibration=found))))
    assert "This judge may not rank: kappa 0.20 [0.05, 0.35]; its lower end must reach 0.40." in text
    assert "90.0 % [80.0, 95.0]" in text
    assert "by -10 points." in text
    assert "2 of 80 outputs got no readable verdict." in text
    assert "No pair was decided in both orders." in text
    assert "Flips" not in text


def test_a_judged_score_is_shown_with_its_correction() -> None:
    judged = pb2.JudgedScore(
        score=score(0.6, 0.5, 0.7), corrected=0.55, corrected_low=0.4, corrected_high=0.7, may_rank=True
    )
    text = rendered(
        evaluation_view(evaluation(pb2.EvaluationResult(score=score(0.6, 0.5, 0.7), judged=judged)))
    )
    assert "60.0 % [50.0, 70.0] accepted" in text
    assert "55.0 % [40.0, 70.0]" in text
    assert "not ranked" not in text


def test_why_a_judged_score_is_not_ranked_is_shown() -> None:
    judged = pb2.JudgedScore(score=score(0.6, 0.5, 0.7), undecided_count=3, reason="It is not calibrated.")
    text = rendered(
        evaluation_view(evaluation(pb2.EvaluationResult(score=score(0.6, 0.5, 0.7), judged=judged)))
    )
    assert "3 without a verdict" in text
    assert "It is not calibrated." in text
    assert "corrected" not in text
