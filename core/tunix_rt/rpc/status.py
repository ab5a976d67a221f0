"""Between the errors of the API and `google.rpc.Status`."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from tunix_rt.rpc.errors import (
    AlreadyExists,
    ApiError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)

DOMAIN = "tunix-rt"
DETAILS_KEY = "grpc-status-details-bin"
BAD_REQUEST_BYTES = 3400  # with message and base64 it fits the 8 KiB of metadata that clients take
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def to_status(error: ApiError) -> status_pb2.Status:
    """The status of an error, with `ErrorInfo` first and the detail that its code asks for."""
    details = [error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=error.metadata)]
    if isinstance(error, InvalidArgument):
        details.append(_bad_request(error))
    elif isinstance(error, NotFound | AlreadyExists):
        details.append(
            error_details_pb2.ResourceInfo(
                resource_type=error.resource.split("/")[0],
                resource_name=error.resource,
                description=error.message,
            )
        )
    elif isinstance(error, FailedPrecondition):
        failure = error_details_pb2.PreconditionFailure()
        failure.violations.add(
            type=error.reason.value, subject=error.metadata.get("resource", ""), description=error.message
        )
        details.append(failure)
    elif isinstance(error, Unavailable):
        delay = duration_pb2.Duration()
        delay.FromTimedelta(error.retry_after)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _bad_request(error: InvalidArgument) -> error_details_pb2.BadRequest:
    """All bad fields; where they do not fit, the first ones and the number of the others."""
    bad = error_details_pb2.BadRequest()
    for violation in error.violations:
        bad.field_violations.add(field=violation.field, description=violation.description)
    count = len(bad.field_violations)
    while bad.ByteSize() > BAD_REQUEST_BYTES and len(bad.field_violations) > 1:
        del bad.field_violations[-1]
    hidden = count - len(bad.field_violations)
    if hidden:
        text = f"and {hidden} more bad fields do not fit this error; correct these first."
        bad.field_violations.add(field="…", description=text)
    return bad


def status_of(error: grpc.RpcError) -> status_pb2.Status:
    """The full status of a failed call; without details where the peer sent none."""
    trailing: Any = error.trailing_metadata() or ()
    for key, value in trailing:
        if key == DETAILS_KEY:
            return status_pb2.Status.FromString(value)
    return status_pb2.Status(code=error.code().value[0], message=error.details() or "")


def reason_of(status: status_pb2.Status) -> str:
    """The `ErrorInfo.reason` of a status; empty if it has none."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
            return str(info.reason)
    return ""


def violations_of(status: status_pb2.Status) -> list[tuple[str, str]]:
    """The `(field, description)` pairs of a status that names bad fields."""
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Is(bad.DESCRIPTOR):
            detail.Unpack(bad)
            return [(violation.field, violation.description) for violation in bad.field_violations]
    return []


def code_of(status: status_pb2.Status) -> grpc.StatusCode:
    """The gRPC code of a status; UNKNOWN for a number that gRPC does not define."""
    return _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
