"""Which checkpoints stay, and which step is the best."""

from __future__ import annotations

import math

import pytest

from tunix_rt.trainer.retention import Best, Retention, improved, kept

STEPS = range(5, 45, 5)


@pytest.mark.parametrize(
    ("retention", "best", "expected"),
    [
        (Retention(), None, {40}),
        (Retention(keep_last=3), None, {30, 35, 40}),
        (Retention(keep_last=100), None, set(STEPS)),
        (Retention(keep_every=20), None, {20, 40}),
        (Retention(keep_every=15), None, {15, 30, 40}),
        (Retention(best_metric="validation/loss"), 10, {10, 40}),
        (Retention(keep_last=2, keep_every=30, best_metric="validation/loss"), 5, {5, 30, 35, 40}),
    ],
)
def test_the_newest_every_so_many_and_the_best_are_kept(retention, best, expected):
    assert kept(STEPS, retention, best=best) == expected


def test_nothing_is_kept_of_nothing():
    assert kept([], Retention(keep_every=5), best=5) == set()


@pytest.mark.parametrize(
    ("metric", "value", "better"),
    [
        ("validation/loss", 0.4, True),
        ("validation/loss", 0.5, False),
        ("validation/loss", 0.6, False),
        ("validation/loss", math.nan, False),
        ("validation/token_accuracy", 0.6, True),
        ("validation/token_accuracy", 0.5, False),
        ("validation/token_accuracy", 0.4, False),
    ],
)
def test_less_loss_and_more_accuracy_are_better(metric, value, better):
    assert improved(Best(10, 0.5), value, metric) is better


def test_the_first_number_is_the_best_so_far():
    assert improved(None, 9.0, "validation/loss")
    assert not improved(None, math.nan, "validation/loss")
