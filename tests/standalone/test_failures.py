"""Errors as people and programs see them."""

from __future__ import annotations

import json

import grpc
import pytest
from rich.console import Console

from tunix_rt.lm.errors import ModelError
from tunix_rt.rpc.errors import InvalidArgument, NotFound, Violation
from tunix_rt.rpc.status import DETAILS_KEY, to_status
from tunix_rt.standalone.failures import Failure, failure_json, failure_of, render_failure
from tunix_rt.standalone.state import StackRunningError
from tunix_rt.traces.trace import TraceError
from tunix_rt.traces.trace import Violation as TraceViolation


class FailedCall(grpc.RpcError):
    """What a stub raises: code, details and trailing metadata."""

    def __init__(self, code: grpc.StatusCode, details: str = "", trailing: tuple = ()) -> None:
        self._answer = (code, details, trailing)

    def code(self) -> grpc.StatusCode:
        return self._answer[0]

    def details(self) -> str:
        return self._answer[1]

    def trailing_metadata(self) -> tuple:
        return self._answer[2]


def rendered(failure: Failure) -> str:
    console = Console(width=200, no_color=True, record=True, file=None, quiet=False)
    with console.capture() as capture:
        render_failure(failure, console)
    return capture.get()


def test_a_call_with_details_keeps_every_field() -> None:
    error = InvalidArgument(
        [Violation("spec.steps", "is 0; it must be positive."), Violation("spec.model", "x")]
    )
    trailing = ((DETAILS_KEY, to_status(error).SerializeToString()),)
    failure = failure_of(FailedCall(error.code, error.message, trailing))
    assert failure == Failure(
        "INVALID_ARGUMENT",
        "INVALID_FIELDS",
        error.message,
        (("spec.steps", "is 0; it must be positive."), ("spec.model", "x")),
    )
    assert rendered(failure).splitlines() == [
        "Error INVALID_FIELDS",
        "  spec.steps is 0; it must be positive.",
        "  spec.model x",
    ]


def test_a_gateway_that_is_away_says_how_to_start_it() -> None:
    failure = failure_of(FailedCall(grpc.StatusCode.UNAVAILABLE, "connect failed"), gateway="127.0.0.1:9")
    assert failure is not None
    assert failure.reason == "GATEWAY_UNAVAILABLE"
    assert "127.0.0.1:9" in failure.message
    assert "`tunix-rt up`" in failure.message


@pytest.mark.parametrize(
    ("error", "reason", "fields"),
    [
        (NotFound("runs/a"), "RESOURCE_NOT_FOUND", ()),
        (TraceError([TraceViolation("line 3", "is broken.")]), "TRACES_INVALID", ("line 3",)),
        (ModelError("config.json: x", "is bad.", remedy="Fix it."), "MODEL_INVALID", ("config.json: x",)),
        (StackRunningError("/state"), "STACK_RUNNING", ()),
        (FileNotFoundError(2, "No such file", "a.jsonl"), "FILE_UNUSABLE", ()),
    ],
)
def test_errors_of_the_command_have_a_reason(error: Exception, reason: str, fields: tuple) -> None:
    failure = failure_of(error)
    assert failure is not None
    assert failure.reason == reason
    assert tuple(field for field, _ in failure.violations) == fields


def test_a_bug_is_not_hidden() -> None:
    assert failure_of(KeyError("x")) is None


def test_markup_in_a_message_is_shown_as_it_is() -> None:
    assert "[bold]x[/bold]" in rendered(Failure("NOT_FOUND", "R", "[bold]x[/bold]"))


def test_json_has_code_reason_message_and_violations() -> None:
    values = json.loads(failure_json(Failure("NOT_FOUND", "R", "m", (("f", "d"),))))
    assert values == {
        "code": "NOT_FOUND",
        "reason": "R",
        "message": "m",
        "violations": [{"field": "f", "description": "d"}],
    }
