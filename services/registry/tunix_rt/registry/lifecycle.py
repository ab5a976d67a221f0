"""Which state a job may go to, decided from its present state alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, IntEnum


class State(IntEnum):
    """The numbers of `JobState`."""

    QUEUED = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5

    @property
    def terminal(self) -> bool:
        """Whether a job stays in it."""
        return self >= State.SUCCEEDED


class Outcome(Enum):
    """How an attempt ended."""

    RESULT = "result"
    ERROR = "error"
    RETRYABLE_ERROR = "retryable error"
    CANCELLED = "cancelled"
    RELEASED = "released"


class Move(Enum):
    """What becomes of a job."""

    STAY = "stay"
    START = "start"
    REQUEUE = "requeue"
    RELEASE = "release"
    SUCCEED = "succeed"
    FAIL = "fail"
    EXHAUST = "exhaust"
    CANCEL = "cancel"
    ASK_TO_STOP = "ask to stop"


@dataclass(frozen=True)
class Life:
    """What decides about a job. `released` attempts ended without fault and cost none of `max_attempts`."""

    state: State
    attempt: int
    released: int
    max_attempts: int
    cancel_requested: bool
    worker: str
    lease_expire_time: datetime | None

    @property
    def attempts_left(self) -> int:
        """How many more attempts may start."""
        return self.max_attempts - (self.attempt - self.released)

    def lease_ended(self, now: datetime, worker: str = "") -> bool:
        """Whether nobody holds the lease; a worker that claims again has given up its earlier lease."""
        if self.state is not State.RUNNING:
            return False
        held = self.lease_expire_time is not None and self.lease_expire_time > now
        return not held or (bool(worker) and self.worker == worker)


def on_claim(life: Life, worker: str, now: datetime) -> Move:
    """When a worker asks for this job."""
    if life.state is not State.QUEUED and not life.lease_ended(now, worker):
        return Move.STAY
    if life.cancel_requested:
        return Move.CANCEL
    return Move.START if life.attempts_left > 0 else Move.EXHAUST


def on_cancel(life: Life, now: datetime) -> Move:
    """When somebody asks the job to stop."""
    if life.state.terminal:
        return Move.STAY
    if life.state is State.QUEUED or life.lease_ended(now):
        return Move.CANCEL
    return Move.ASK_TO_STOP


def on_finish(life: Life, outcome: Outcome) -> Move:
    """When the attempt that holds the lease ends."""
    if outcome is Outcome.RESULT:
        return Move.SUCCEED
    if outcome is Outcome.CANCELLED:
        return Move.CANCEL
    if outcome is Outcome.ERROR:
        return Move.FAIL
    if life.cancel_requested:
        return Move.CANCEL
    if outcome is Outcome.RELEASED:
        return Move.RELEASE
    return Move.REQUEUE if life.attempts_left > 0 else Move.EXHAUST
