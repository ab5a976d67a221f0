"""Which state follows, case by case."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tunix_rt.registry.lifecycle import Life, Move, Outcome, State, on_cancel, on_claim, on_finish

NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUEUED = Life(State.QUEUED, 0, 0, 5, False, "", None)
RUNNING = Life(State.RUNNING, 1, 0, 5, False, "a", NOW + timedelta(seconds=30))
EXPIRED = replace(RUNNING, lease_expire_time=NOW)
STOPPING = replace(RUNNING, cancel_requested=True)
TERMINAL = [replace(RUNNING, state=s) for s in (State.SUCCEEDED, State.FAILED, State.CANCELLED)]


@pytest.mark.parametrize(
    ("life", "worker", "move"),
    [
        (QUEUED, "a", Move.START),
        (RUNNING, "b", Move.STAY),
        (RUNNING, "a", Move.START),
        (EXPIRED, "b", Move.START),
        (replace(EXPIRED, cancel_requested=True), "b", Move.CANCEL),
        (replace(EXPIRED, attempt=5), "b", Move.EXHAUST),
        (replace(EXPIRED, attempt=5, released=1), "b", Move.START),
        (replace(QUEUED, attempt=4), "b", Move.START),
        *((life, "a", Move.STAY) for life in TERMINAL),
    ],
)
def test_claim(life: Life, worker: str, move: Move) -> None:
    assert on_claim(life, worker, NOW) is move


@pytest.mark.parametrize(
    ("life", "move"),
    [
        (QUEUED, Move.CANCEL),
        (RUNNING, Move.ASK_TO_STOP),
        (STOPPING, Move.ASK_TO_STOP),
        (EXPIRED, Move.CANCEL),
        *((life, Move.STAY) for life in TERMINAL),
    ],
)
def test_cancel(life: Life, move: Move) -> None:
    assert on_cancel(life, NOW) is move


@pytest.mark.parametrize(
    ("life", "outcome", "move"),
    [
        (RUNNING, Outcome.RESULT, Move.SUCCEED),
        (STOPPING, Outcome.RESULT, Move.SUCCEED),
        (RUNNING, Outcome.ERROR, Move.FAIL),
        (STOPPING, Outcome.ERROR, Move.FAIL),
        (RUNNING, Outcome.RETRYABLE_ERROR, Move.REQUEUE),
        (STOPPING, Outcome.RETRYABLE_ERROR, Move.CANCEL),
        (replace(RUNNING, attempt=5), Outcome.RETRYABLE_ERROR, Move.EXHAUST),
        (replace(RUNNING, attempt=5, released=1), Outcome.RETRYABLE_ERROR, Move.REQUEUE),
        (RUNNING, Outcome.RELEASED, Move.RELEASE),
        (replace(RUNNING, attempt=5), Outcome.RELEASED, Move.RELEASE),
        (STOPPING, Outcome.RELEASED, Move.CANCEL),
        (STOPPING, Outcome.CANCELLED, Move.CANCEL),
    ],
)
def test_finish(life: Life, outcome: Outcome, move: Move) -> None:
    assert on_finish(life, outcome) is move


def test_a_lease_ends_at_its_time_and_not_before() -> None:
    assert RUNNING.lease_ended(NOW + timedelta(seconds=30))
    assert not RUNNING.lease_ended(NOW + timedelta(seconds=29.999))
