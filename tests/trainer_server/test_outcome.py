"""How an attempt ends: from the child's outcome, its exit, and what it was asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tunix_rt.jobs.child import Exit
from tunix_rt.jobs.remote import LeaseLost
from tunix_rt.jobs.worker import ClaimedJob
from tunix_rt.rpc.status import code_of, reason_of
from tunix_rt.trainer.outcome import Ending, ending_of
from tunix_rt.v1 import job_service_pb2 as pb


def claimed(*asked: str) -> ClaimedJob:
    job = ClaimedJob(pb.Job(name="runs/r"), asyncio.Event())
    for event in asked:
        getattr(job, event).set()
    return job


@pytest.mark.parametrize(
    ("asked", "code", "state", "expected"),
    [
        ((), 0, "succeeded", Ending.SUCCEEDED),
        (("cancel_requested",), 0, "succeeded", Ending.SUCCEEDED),
        (("cancel_requested",), 0, "stopped", Ending.CANCELLED),
        (("stopping",), 0, "stopped", Ending.RELEASED),
        (("cancel_requested", "stopping"), 0, "stopped", Ending.CANCELLED),
        ((), 0, "stopped", Ending.RELEASED),
        (("cancel_requested",), -15, None, Ending.CANCELLED),
        (("cancel_requested",), -9, None, Ending.CANCELLED),
        (("stopping",), -9, None, Ending.RELEASED),
    ],
)
def test_endings_without_failure(asked: Any, code: int, state: str | None, expected: Ending) -> None:
    outcome = {"state": state} if state else None
    assert ending_of(claimed(*asked), Exit(code), outcome, "") is expected


def test_a_lost_lease_ends_nothing() -> None:
    with pytest.raises(LeaseLost):
        ending_of(claimed("lease_lost"), Exit(-9), None, "")


def failed(outcome: dict[str, Any] | None, code: int = 1, log: str = "") -> pb.FinishJobRequest:
    end = ending_of(claimed(), Exit(code), outcome, log)
    assert isinstance(end, pb.FinishJobRequest)
    return end


def test_a_failure_that_the_child_explains_keeps_its_reason() -> None:
    end = failed({"state": "failed", "reason": "NON_FINITE_LOSS", "message": "Step 3 …", "retryable": False})
    assert (reason_of(end.error), end.error.message, end.retryable) == ("NON_FINITE_LOSS", "Step 3 …", False)
    assert code_of(end.error).name == "FAILED_PRECONDITION"


def test_a_reason_that_nobody_knows_is_a_failed_child() -> None:
    end = failed({"state": "failed", "reason": "ODD", "message": "m"})
    assert reason_of(end.error) == "CHILD_FAILED"


@pytest.mark.parametrize(("code", "text"), [(7, "exited with code 7"), (-11, "was killed by SIGSEGV")])
def test_a_crash_is_retried_and_shows_the_end_of_the_log(code: int, text: str) -> None:
    end = failed(None, code, "Traceback …\nMemoryError")
    assert reason_of(end.error) == "CHILD_FAILED"
    assert text in end.error.message
    assert end.error.message.endswith("Traceback …\nMemoryError")
    assert end.retryable


def test_success_is_not_believed_of_a_process_that_crashed_afterwards() -> None:
    assert reason_of(failed({"state": "succeeded"}, -6).error) == "CHILD_FAILED"


def test_a_killed_process_hints_at_memory() -> None:
    assert "ran out of memory" in failed(None, -9).error.message
