"""How resources, runs and comparisons look in the terminal."""

from __future__ import annotations

import math

import pytest
from rich.console import Console, RenderableType

from tunix_rt.standalone.comparison_views import comparison_view, flip_label, short_text
from tunix_rt.standalone.follow import RunView
from tunix_rt.standalone.leaderboard_views import leaderboard_view
from tunix_rt.standalone.run_display import draw_run, summary_line
from tunix_rt.standalone.views import duration_text, number_text, probability_text, score_text, size_text
from tunix_rt.v1 import evaluation_pb2, gateway_service_pb2, job_pb2, registry_service_pb2, run_pb2

KINDS = evaluation_pb2.ItemScore


def rendered(renderable: RenderableType) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (1.23456, "1.235"),
        (12345.6, "12,346"),
        (2e-5, "2.00e-05"),
        (math.nan, "nan"),
        (math.inf, "inf"),
    ],
)
def test_numbers_have_four_digits(value: float | None, text: str) -> None:
    assert number_text(value) == text


def test_texts_of_values() -> None:
    assert score_text(evaluation_pb2.Score(mean=0.41, low=0.319, high=0.508)) == "41.0 % [31.9, 50.8]"
    assert probability_text(0.04567) == "0.0457"
    assert probability_text(3e-9) == "3.0e-09"
    assert duration_text(42.4) == "42 s"
    assert duration_text(185) == "3 min 05 s"
    assert size_text(538_060_032) == "538.1 MB"


def flip(baseline: int, subject: int) -> gateway_service_pb2.ItemFlip:
    return gateway_service_pb2.ItemFlip(
        prompt="[bold]2 + 2[/bold]",
        baseline_outcome=baseline,
        subject_outcome=subject,
        subject_output="a\n\nb",
    )


def test_a_flip_between_two_wrong_outcomes_is_neither_gained_nor_lost() -> None:
    assert flip_label(flip(KINDS.WRONG, KINDS.CORRECT)) == "gained"
    assert flip_label(flip(KINDS.CORRECT, KINDS.TRUNCATED)) == "lost"
    assert flip_label(flip(KINDS.TRUNCATED, KINDS.WRONG)) == ""


def test_long_outputs_are_cut_and_blank_lines_dropped() -> None:
    assert short_text("a\n\n\nb\n") == "a\nb"
    assert short_text("\n".join("abcdefgh")) == "a\nb\nc\nd\ne\nf …"
    assert short_text("x" * 300) == "x" * 200 + " …"


def comparison() -> gateway_service_pb2.Comparison:
    result = evaluation_pb2.EvaluationResult(
        score=evaluation_pb2.Score(mean=0.5, low=0.4, high=0.6, count=10)
    )
    side = gateway_service_pb2.ComparedSubject
    pair = gateway_service_pb2.PairedComparison(
        subject="runs/b",
        count=10,
        gained=4,
        lost=1,
        difference=0.3,
        difference_low=-0.1,
        difference_high=0.6,
        p_value=0.375,
        adjusted_p_value=0.375,
        permutation_p_value=0.38,
        minimum_detectable_difference=0.592,
        verdict=gateway_service_pb2.PairedComparison.NO_DETECTABLE_DIFFERENCE,
        flips=[flip(KINDS.WRONG, KINDS.CORRECT), flip(KINDS.TRUNCATED, KINDS.WRONG)],
    )
    differ = gateway_service_pb2.ParameterDifference
    return gateway_service_pb2.Comparison(
        subjects=[
            side(subject="models/a/versions/v1", evaluation=evaluation_pb2.Evaluation(result=result)),
            side(subject="runs/b", final_loss=0.0),
        ],
        differences=[differ(path="seed", values=["1", "2"]), differ(path="steps", values=["", "5"])],
        pairs=[pair],
    )


def test_a_comparison_says_the_verdict_first() -> None:
    lines = rendered(comparison_view(comparison())).splitlines()
    assert lines[0].startswith(
        "No detectable difference between runs/b and models/a/versions/v1: +30.0 points"
    )
    assert (
        "4 gained and 1 lost of 10 items, exact McNemar p = 0.3750; so many items reveal 59.2 points or more."
    ) in " ".join(line.strip() for line in lines[:2])


def test_a_comparison_shows_each_test_and_what_the_items_can_reveal() -> None:
    compared = comparison()
    other = gateway_service_pb2.PairedComparison(
        subject="runs/c",
        count=5,
        p_value=0.02,
        adjusted_p_value=0.06,
        minimum_detectable_difference=1.0,
        verdict=gateway_service_pb2.PairedComparison.NO_DETECTABLE_DIFFERENCE,
    )
    compared.pairs.append(other)
    text = rendered(comparison_view(compared))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    assert ["runs/b", "+30.0 [-10.0, +60.0]", "0.3750", "0.3800", "0.3750", "59.2 points"] in rows
    assert "permutation test p = 0.0200, adjusted 0.0600; so few items reveal none." in " ".join(text.split())


def test_a_comparison_of_families_shows_their_interval_and_test_in_place_of_the_items() -> None:
    compared = comparison()
    (pair,) = compared.pairs
    pair.cluster_count, pair.clustered_p_value, pair.adjusted_p_value = 12, 0.5, 0.5
    pair.clustered_low, pair.clustered_high = -0.2, 0.8
    text = rendered(comparison_view(compared))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    cells = ["runs/b", "+30.0 [-20.0, +80.0]", "12", "0.5000", "0.3750", "0.3800", "0.5000", "59.2 points"]
    assert cells in rows
    assert "[-20.0, +80.0], 4 gained and 1 lost of 10 items in 12 families, permutation of families" in (
        " ".join(text.split())
    )


def test_a_comparison_shows_the_seeds_of_its_runs() -> None:
    compared = comparison()
    compared.seed_groups.add(
        runs=["runs/b", "runs/c"], seeds=[1, 7], scores=[0.5, 0.52], mean=0.51, standard_deviation=0.014,
        low=0.38, high=0.64, chance_difference=0.25,
    )  # fmt: skip
    text = " ".join(rendered(comparison_view(compared)).split())
    assert "2 seeds of b: 51.0 % ± 1.4" in text
    assert "Scores: 50.0 % (seed 1), 52.0 % (seed 7)." in text


def test_a_comparison_shows_zero_as_zero_and_absence_as_absence() -> None:
    text = rendered(comparison_view(comparison()))
    (row,) = [line for line in text.splitlines() if "final loss" in line]
    assert [cell.strip() for cell in row.split("│")[2:4]] == ["–", "0"]


def test_a_comparison_shows_what_differs_and_what_changed_without_markup() -> None:
    text = rendered(comparison_view(comparison()))
    assert "seed" in text
    assert "steps " not in text
    assert "Items gained and lost (1 of 5 shown)" in text
    assert "[bold]2 + 2[/bold]" in text


def test_an_empty_leaderboard_says_how_to_fill_it() -> None:
    text = rendered(leaderboard_view(registry_service_pb2.Leaderboard(dataset="datasets/a")))
    assert "`tunix-rt evaluate`" in text


def event(step: int, value: float, seconds: int) -> gateway_service_pb2.WatchRunResponse:
    point = run_pb2.MetricPoint(metric="train/loss", step=step, value=value)
    point.measure_time.FromSeconds(seconds)
    return gateway_service_pb2.WatchRunResponse(points=gateway_service_pb2.MetricPoints(points=[point]))


@pytest.fixture
def view() -> RunView:
    view = RunView()
    status = job_pb2.JobStatus(state=job_pb2.JOB_STATE_RUNNING, progress=1, progress_total=10)
    run = run_pb2.Run(name="runs/a", status=status)
    view.apply(gateway_service_pb2.WatchRunResponse(run=run))
    for response in (event(1, 3.0, 100), event(2, 2.0, 110), event(3, 1.5, 120)):
        view.apply(response)
    return view


def test_a_run_is_known_by_its_last_values_and_its_pace(view: RunView) -> None:
    assert view.step == 3
    assert view.last("train/loss") == 1.5
    assert view.remaining_seconds(120) == pytest.approx(70)
    assert not view.ended
    assert summary_line(view) == "runs/a running 3/10 loss 1.5"


def test_a_later_attempt_replaces_the_value_of_a_step(view: RunView) -> None:
    view.apply(event(2, 1.9, 200))
    assert view.values("train/loss") == [3.0, 1.9, 1.5]


def test_a_drawn_run_shows_steps_loss_and_the_time_left(view: RunView) -> None:
    text = rendered(draw_run(view, 120))
    assert "3/10" in text
    assert "70 s left" in text
    assert "loss 1.5" in text
