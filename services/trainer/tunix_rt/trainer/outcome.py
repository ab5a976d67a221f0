"""Decides how an attempt at a run ended; pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from tunix_rt.jobs.child import Exit
from tunix_rt.jobs.remote import LeaseLost
from tunix_rt.jobs.worker import ClaimedJob, failure
from tunix_rt.rpc.errors import ApiError, FailedPrecondition, Internal, Reason
from tunix_rt.v1 import job_service_pb2 as pb

_OUR_FAULT = frozenset({Reason.CHILD_FAILED, Reason.INTERNAL})


class Ending(Enum):
    """How an attempt ended that has not failed."""

    SUCCEEDED = auto()
    CANCELLED = auto()
    RELEASED = auto()


def interrupted(claimed: ClaimedJob) -> Ending:
    """How an attempt ends that was asked to stop. Raises LeaseLost if it has lost its lease."""
    if claimed.lease_lost.is_set():
        raise LeaseLost
    return Ending.CANCELLED if claimed.cancel_requested.is_set() else Ending.RELEASED


def outcome_of(ending: Ending) -> pb.FinishJobRequest:
    """The outcome of an attempt that was cancelled or is given back."""
    if ending is Ending.CANCELLED:
        return pb.FinishJobRequest(cancelled=pb.Cancelled())
    return pb.FinishJobRequest(released=pb.Released())


def ending_of(
    claimed: ClaimedJob, exit_: Exit, outcome: Mapping[str, Any] | None, log_tail: str
) -> Ending | pb.FinishJobRequest:
    """How an attempt ended whose child has ended: from its outcome, its exit and what it was asked.

    A child that dies without an outcome after it was asked to stop was stopped,
    such as one that got SIGTERM while it started. Otherwise it crashed, and
    another attempt goes on from its last checkpoint.
    """
    state = outcome["state"] if outcome else ""
    if state == "succeeded" and exit_.code == 0:
        return Ending.SUCCEEDED
    if outcome and state == "failed":
        return _failed(outcome)
    asked = claimed.lease_lost.is_set() or claimed.cancel_requested.is_set() or claimed.stopping.is_set()
    if asked or state == "stopped":
        return interrupted(claimed)
    return _crashed(exit_, log_tail)


def _failed(outcome: Mapping[str, Any]) -> pb.FinishJobRequest:
    known = outcome["reason"] in set(Reason)
    reason = Reason(outcome["reason"]) if known else Reason.CHILD_FAILED
    kind = Internal if reason in _OUR_FAULT else FailedPrecondition
    error: ApiError = kind(reason, outcome["message"])
    return failure(error, retryable=bool(outcome.get("retryable", False)))


def _crashed(exit_: Exit, log_tail: str) -> pb.FinishJobRequest:
    hint = " Perhaps the machine ran out of memory." if exit_.text.endswith("SIGKILL") else ""
    message = f"The training process {exit_.text} without an outcome.{hint} The end of its log:\n{log_tail}"
    error = Internal(Reason.CHILD_FAILED, message, {"exit": exit_.text})
    return failure(error, retryable=True)
