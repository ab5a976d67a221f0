"""Turns every error that a person can meet into a few lines, or into JSON, and never a traceback."""

from __future__ import annotations

import json
from dataclasses import dataclass

import grpc
from rich.console import Console
from rich.markup import escape

from tunix_rt.rpc.errors import ApiError, InvalidArgument
from tunix_rt.rpc.status import code_of, reason_of, status_of, violations_of

_AWAY = (
    "The gateway at {gateway} does not answer. Start the stack with `tunix-rt up`, or name another "
    "one with --gateway."
)


@dataclass(frozen=True)
class Failure:
    """An error as people and programs see it; `violations` are `(field, description)` pairs."""

    code: str
    reason: str
    message: str
    violations: tuple[tuple[str, str], ...] = ()


class CommandError(Exception):
    """An error of the command itself, such as a file that does not exist."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def failure_of(error: Exception, *, gateway: str = "") -> Failure | None:
    """The failure that an exception means; None for one that is a bug of ours."""
    if isinstance(error, grpc.RpcError):
        return _of_call(error, gateway)
    if isinstance(error, InvalidArgument):
        violations = tuple((item.field, item.description) for item in error.violations)
        return Failure(error.code.name, error.reason.value, error.message, violations)
    if isinstance(error, ApiError):
        return Failure(error.code.name, error.reason.value, error.message)
    if isinstance(error, CommandError):
        return Failure("FAILED_PRECONDITION", error.reason, str(error))
    return _of_core(error)


def render_failure(failure: Failure, console: Console) -> None:
    """Prints a failure: one line, or one line a bad field."""
    if not failure.violations:
        console.print(
            f"[bold red]Error[/] [dim]{failure.reason or failure.code}[/]  {escape(failure.message)}"
        )
        return
    console.print(f"[bold red]Error[/] [dim]{failure.reason or failure.code}[/]")
    for field, description in failure.violations:
        console.print(f"  [bold]{escape(field)}[/] {escape(description)}")


def failure_json(failure: Failure) -> str:
    """The failure as one JSON object."""
    return json.dumps(
        {
            "code": failure.code,
            "reason": failure.reason,
            "message": failure.message,
            "violations": [
                {"field": field, "description": description} for field, description in failure.violations
            ],
        },
        ensure_ascii=False,
    )


def _of_call(error: grpc.RpcError, gateway: str) -> Failure:
    status = status_of(error)
    code, reason = code_of(status), reason_of(status)
    if code is grpc.StatusCode.UNAVAILABLE and not reason:
        return Failure(code.name, "GATEWAY_UNAVAILABLE", _AWAY.format(gateway=gateway or "the address given"))
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = "The call took too long. `tunix-rt status` shows which service does not answer."
        return Failure(code.name, reason or "DEADLINE_EXCEEDED", message)
    return Failure(code.name, reason, status.message, tuple(violations_of(status)))


def _of_core(error: Exception) -> Failure | None:
    from tunix_rt.lm.errors import ModelError
    from tunix_rt.standalone.plan import PortTakenError
    from tunix_rt.standalone.postgres import PostgresError
    from tunix_rt.standalone.stack import StackError
    from tunix_rt.standalone.state import StackRunningError
    from tunix_rt.traces.trace import TraceError

    if isinstance(error, TraceError):
        violations = tuple((item.path, item.message) for item in error.violations)
        return Failure("INVALID_ARGUMENT", "TRACES_INVALID", str(error), violations)
    if isinstance(error, ModelError):
        description = f"{error.problem} {error.remedy}"
        return Failure("INVALID_ARGUMENT", "MODEL_INVALID", str(error), ((error.field, description),))
    if isinstance(error, StackRunningError):
        message = f"A stack runs in {error} already; `tunix-rt status` shows it, `tunix-rt down` stops it."
        return Failure("FAILED_PRECONDITION", "STACK_RUNNING", message)
    if isinstance(error, PortTakenError):
        message = f"Port {error.port} is taken by another program; --port 0 chooses a free one."
        return Failure("FAILED_PRECONDITION", "PORT_TAKEN", message)
    if isinstance(error, StackError | PostgresError):
        return Failure("UNAVAILABLE", "STACK_FAILED", str(error))
    if isinstance(error, OSError) and error.filename is not None:
        return Failure("FAILED_PRECONDITION", "FILE_UNUSABLE", f"{error.filename}: {error.strerror}.")
    return None
