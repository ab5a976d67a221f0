"""The demo notices results that are not what they must be."""

from __future__ import annotations

import pytest

from tunix_rt.standalone import demo_checks as checks
from tunix_rt.v1 import (
    dataset_pb2,
    evaluation_pb2,
    gateway_service_pb2,
    job_pb2,
    registry_service_pb2,
    run_pb2,
)

STEPS = 20


def points(**changes: object) -> list[run_pb2.MetricPoint]:
    made = [
        run_pb2.MetricPoint(metric=metric, step=step, value=2.0 - step / STEPS)
        for step in range(1, STEPS + 1)
        for metric in checks.STEP_METRICS
    ]
    return [*made, run_pb2.MetricPoint(metric="validation/loss", step=STEPS, value=1.0)]


def test_complete_points_pass() -> None:
    checks.check_points(points(), STEPS)


def test_a_missing_step_is_found() -> None:
    kept = [point for point in points() if not (point.metric == "train/loss" and point.step == 7)]
    with pytest.raises(checks.DemoError, match=r"train/loss is missing at steps \[7\]"):
        checks.check_points(kept, STEPS)


def test_a_doubled_step_is_found() -> None:
    with pytest.raises(checks.DemoError, match=r"doubled at steps \[1\]"):
        checks.check_points([*points(), points()[0]], STEPS)


def test_a_loss_that_does_not_fall_is_found() -> None:
    rising = [run_pb2.MetricPoint(metric=p.metric, step=p.step, value=p.step) for p in points()]
    with pytest.raises(checks.DemoError, match="did not fall"):
        checks.check_points(rising, STEPS)


def test_a_run_without_validation_is_found() -> None:
    with pytest.raises(checks.DemoError, match="no validation loss"):
        checks.check_points(points()[:-1], STEPS)


def evaluation(correct: int, size: int) -> evaluation_pb2.Evaluation:
    score = evaluation_pb2.Score(mean=correct / size, low=0, high=1, count=size)
    return evaluation_pb2.Evaluation(
        name="evaluations/e",
        status=job_pb2.JobStatus(state=job_pb2.JOB_STATE_SUCCEEDED),
        result=evaluation_pb2.EvaluationResult(score=score),
        weights_digest="d",
    )


def items(correct: int, size: int) -> list[evaluation_pb2.ItemScore]:
    kinds = evaluation_pb2.ItemScore
    return [
        kinds(trace_id=f"t{i}", outcome=kinds.CORRECT if i < correct else kinds.WRONG) for i in range(size)
    ]


def test_a_score_is_checked_against_its_items() -> None:
    checks.check_evaluation(evaluation(3, 10), items(3, 10), 10)
    with pytest.raises(checks.DemoError, match="but 4 of 10"):
        checks.check_evaluation(evaluation(3, 10), items(4, 10), 10)
    with pytest.raises(checks.DemoError, match="the split has 11"):
        checks.check_evaluation(evaluation(3, 10), items(3, 10), 11)


def test_rebuilt_datasets_must_have_the_same_bytes() -> None:
    one, other = dataset_pb2.Dataset(sha256="a"), dataset_pb2.Dataset(sha256="b")
    checks.check_rebuilt(one, one)
    with pytest.raises(checks.DemoError, match="rebuilt"):
        checks.check_rebuilt(one, other)


def test_all_subjects_must_share_a_board() -> None:
    entries = [registry_service_pb2.Leaderboard.Entry(subject=name) for name in ("a", "b")]
    board = registry_service_pb2.Leaderboard.Board
    together = registry_service_pb2.Leaderboard(boards=[board(entries=entries)])
    apart = registry_service_pb2.Leaderboard(boards=[board(entries=entries[:1]), board(entries=entries[1:])])
    checks.check_leaderboard(together, ["a", "b"])
    with pytest.raises(checks.DemoError, match="No board"):
        checks.check_leaderboard(apart, ["a", "b"])


@pytest.mark.parametrize(
    ("gained", "lost", "p", "passes"), [(30, 2, 1e-6, True), (9, 8, 1.0, False), (2, 30, 1e-6, False)]
)
def test_a_gain_must_be_significant_and_a_gain(gained: int, lost: int, p: float, passes: bool) -> None:
    pair = gateway_service_pb2.PairedComparison(gained=gained, lost=lost, p_value=p)
    checks.check_gain(pair, None)
    if passes:
        checks.check_gain(pair, 0.01)
    else:
        with pytest.raises(checks.DemoError, match="does not beat"):
            checks.check_gain(pair, 0.01)
