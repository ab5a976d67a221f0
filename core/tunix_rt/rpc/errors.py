"""The errors of the API; one interceptor turns them into statuses, nothing else does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import grpc


class Reason(StrEnum):
    """The value of `ErrorInfo.reason`; each stands in `docs/errors.md`."""

    INVALID_FIELDS = "INVALID_FIELDS"
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    RESOURCE_NOT_FOUND = "RESOURCE_NOT_FOUND"
    RESOURCE_EXISTS = "RESOURCE_EXISTS"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    DATASET_NOT_SEALED = "DATASET_NOT_SEALED"
    DATASET_SEALED = "DATASET_SEALED"
    DATASET_EMPTY = "DATASET_EMPTY"
    DATASET_DIGEST_MISMATCH = "DATASET_DIGEST_MISMATCH"
    DATASET_NOT_DERIVED = "DATASET_NOT_DERIVED"
    DATASET_IN_USE = "DATASET_IN_USE"
    DATASET_DELETED = "DATASET_DELETED"
    SPLIT_EMPTY = "SPLIT_EMPTY"
    BLOB_MISSING = "BLOB_MISSING"
    BLOB_CORRUPT = "BLOB_CORRUPT"
    DIRECT_TRANSFER_UNAVAILABLE = "DIRECT_TRANSFER_UNAVAILABLE"
    PARTS_MISSING = "PARTS_MISSING"
    MODEL_INVALID = "MODEL_INVALID"
    MODEL_TOO_LARGE = "MODEL_TOO_LARGE"
    TRACES_INVALID = "TRACES_INVALID"
    ROWS_INVALID = "ROWS_INVALID"
    RUN_NOT_FINISHED = "RUN_NOT_FINISHED"
    RUN_OPEN = "RUN_OPEN"
    RUN_DELETED = "RUN_DELETED"
    EVALUATION_NOT_FINISHED = "EVALUATION_NOT_FINISHED"
    CONTAMINATED = "CONTAMINATED"
    NOT_COMPARABLE = "NOT_COMPARABLE"
    BASELINE_MISSING = "BASELINE_MISSING"
    EVIDENCE_MISSING = "EVIDENCE_MISSING"
    GATE_FAILED = "GATE_FAILED"
    LEASE_LOST = "LEASE_LOST"
    STREAM_GAP = "STREAM_GAP"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    CALIBRATION_MISMATCH = "CALIBRATION_MISMATCH"
    JUDGE_REFUSED = "JUDGE_REFUSED"
    JUDGE_UNAVAILABLE = "JUDGE_UNAVAILABLE"
    NON_FINITE_LOSS = "NON_FINITE_LOSS"
    GRADIENT_SPIKES = "GRADIENT_SPIKES"
    CHILD_FAILED = "CHILD_FAILED"
    ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"
    ENGINE_FAILED = "ENGINE_FAILED"
    SCORER_FAILED = "SCORER_FAILED"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE"
    BLOBS_UNAVAILABLE = "BLOBS_UNAVAILABLE"
    BACKUP_RUNNING = "BACKUP_RUNNING"
    BACKUP_INVALID = "BACKUP_INVALID"
    SCHEMA_MISMATCH = "SCHEMA_MISMATCH"
    TARGET_NOT_EMPTY = "TARGET_NOT_EMPTY"
    UNKNOWN_METHOD = "UNKNOWN_METHOD"
    INTERNAL = "INTERNAL"


MESSAGE_BYTES = 1000
FIELDS_BYTES = 500


@dataclass(frozen=True)
class Violation:
    """One bad field: its path, such as `spec.steps`, and what is wrong and what to do."""

    field: str
    description: str


class ApiError(Exception):
    """An error that a client sees, with a code, a reason and metadata.

    `message` says what is wrong, with the value, and what to do. Values of the
    message also stand in `metadata`.
    """

    code = grpc.StatusCode.INTERNAL

    def __init__(self, reason: Reason, message: str, metadata: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}


class InvalidArgument(ApiError):
    """The request is wrong whatever the state of the system; names all bad fields.

    Of very many the message and the metadata name only the first: what does not fit the 8 KiB of
    metadata that a gRPC client takes would hide the whole error from it.
    """

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, violations: Sequence[Violation], reason: Reason = Reason.INVALID_FIELDS) -> None:
        self.violations = tuple(violations)
        shown = _first_of([f"{v.field}: {v.description}" for v in self.violations], MESSAGE_BYTES)
        hidden = len(self.violations) - len(shown)
        text = "; ".join(shown) + (f"; and {hidden} more bad fields." if hidden else "")
        fields = _first_of([v.field for v in self.violations], FIELDS_BYTES)
        super().__init__(reason, text, {"fields": ",".join(fields)})

    @classmethod
    def of(cls, field: str, description: str) -> InvalidArgument:
        """The error of one bad field."""
        return cls([Violation(field, description)])


class Unauthenticated(ApiError):
    """The caller's token is missing or wrong."""

    code = grpc.StatusCode.UNAUTHENTICATED


class NotFound(ApiError):
    """No such resource."""

    code = grpc.StatusCode.NOT_FOUND

    def __init__(
        self, resource: str, remedy: str = "Check the name; the List methods show what exists."
    ) -> None:
        super().__init__(
            Reason.RESOURCE_NOT_FOUND, f"`{resource}` does not exist. {remedy}", {"resource": resource}
        )
        self.resource = resource


class AlreadyExists(ApiError):
    """The id or the request id is taken."""

    code = grpc.StatusCode.ALREADY_EXISTS

    def __init__(self, resource: str, message: str, reason: Reason = Reason.RESOURCE_EXISTS) -> None:
        super().__init__(reason, message, {"resource": resource})
        self.resource = resource


class FailedPrecondition(ApiError):
    """Right, but not in this state."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(ApiError):
    """A lost lease or race; begin again."""

    code = grpc.StatusCode.ABORTED


class OutOfRange(ApiError):
    """A gap in a stream; go on from `committed`."""

    code = grpc.StatusCode.OUT_OF_RANGE


class ResourceExhausted(ApiError):
    """A limit is reached; the limit stands in the metadata."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(ApiError):
    """A dependency is away; retry after `retry_after`."""

    code = grpc.StatusCode.UNAVAILABLE

    def __init__(
        self,
        reason: Reason,
        message: str,
        metadata: Mapping[str, object] | None = None,
        retry_after: timedelta = timedelta(seconds=1),
    ) -> None:
        super().__init__(reason, message, metadata)
        self.retry_after = retry_after


class Unimplemented(ApiError):
    """The method does not exist."""

    code = grpc.StatusCode.UNIMPLEMENTED


class Internal(ApiError):
    """A bug of ours; the log has the trace."""

    code = grpc.StatusCode.INTERNAL


def _first_of(texts: Sequence[str], room: int) -> list[str]:
    """The first texts that fit so many bytes; one always does."""
    kept: list[str] = []
    for text in texts:
        room -= len(text.encode()) + 2
        if kept and room < 0:
            break
        kept.append(text)
    return kept
