"""Builds and parses resource names; nothing else splits them."""

from __future__ import annotations

import re
import secrets
import time

from tunix_rt.rpc.errors import InvalidArgument, Violation

ID_PATTERN = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ID = re.compile(ID_PATTERN)
_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"

DATASET = "datasets/{dataset}"
RUN = "runs/{run}"
EVALUATION = "evaluations/{evaluation}"
ARTIFACT = "artifacts/{artifact}"
MODEL = "models/{model}"
MODEL_VERSION = "models/{model}/versions/{version}"
MODEL_ALIAS = "models/{model}/aliases/{alias}"
PREDICTOR = "predictors/{predictor}"
TASK = "tasks/{task}"
TASK_VERSION = "tasks/{task}/versions/{version}"
ENDPOINT = "endpoints/{endpoint}"
SWEEP = "sweeps/{sweep}"


def matches(name: str, pattern: str) -> bool:
    """Whether a name has the form of a pattern such as `runs/{run}`."""
    return _regex(pattern).fullmatch(name) is not None


def check(name: str, pattern: str, field: str) -> Violation | None:
    """What is wrong with a name, or None; for collecting all bad fields of a request."""
    if not name:
        return Violation(field, f"is required. Give a name of the form `{pattern}`.")
    if not matches(name, pattern):
        return Violation(field, f"is `{name[:200]}`; it must have the form `{pattern}`.")
    return None


def check_any(name: str, patterns: tuple[str, ...], field: str) -> Violation | None:
    """As `check`, for a name that may have one of several forms."""
    forms = " or ".join(f"`{pattern}`" for pattern in patterns)
    if not name:
        return Violation(field, f"is required. Give a name of the form {forms}.")
    if not any(matches(name, pattern) for pattern in patterns):
        return Violation(field, f"is `{name[:200]}`; it must have the form {forms}.")
    return None


def require(name: str, pattern: str, field: str) -> str:
    """The name itself. Raises InvalidArgument if it does not have the form of the pattern."""
    violation = check(name, pattern, field)
    if violation:
        raise InvalidArgument([violation])
    return name


def check_id(value: str, field: str) -> Violation | None:
    """What is wrong with an id that a client chose, or None; the empty id is right."""
    if value and not _ID.fullmatch(value):
        return Violation(
            field,
            f"is `{value[:200]}`; it must match `{ID_PATTERN}` (lower case, digits, hyphens, at most 63).",
        )
    return None


def resource_id(name: str) -> str:
    """The last id of a name, such as `v1` of `models/smol/versions/v1`."""
    return name.rsplit("/", 1)[-1]


def parent(name: str) -> str:
    """The name of the parent, such as `models/smol` of `models/smol/versions/v1`."""
    return name.rsplit("/", 2)[0]


def new_id(prefix: str) -> str:
    """A short id that sorts by time: prefix, 9 characters of milliseconds, 4 random ones."""
    moment = int(time.time() * 1000)
    text = ""
    for _ in range(9):
        text = _BASE32[moment % 32] + text
        moment //= 32
    return f"{prefix}-{text}" + "".join(secrets.choice(_BASE32) for _ in range(4))


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("/".join(ID_PATTERN if part.startswith("{") else part for part in pattern.split("/")))
