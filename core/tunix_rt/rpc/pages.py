"""Page sizes and opaque page tokens: a position and a digest of the filters, base64url."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence

from tunix_rt.rpc.errors import InvalidArgument, Reason, Violation


def page_size(value: int, *, default: int = 50, maximum: int = 1000) -> int:
    """The size to use. Raises InvalidArgument if it is negative."""
    if value < 0:
        raise InvalidArgument.of("page_size", f"is {value}; it must not be negative.")
    return min(value, maximum) if value else default


def encode_token(position: Sequence[str | int], filters: Sequence[object]) -> str:
    """The token of a position under some filters."""
    body = json.dumps([_digest(filters), *position], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(body).decode()


def decode_token(token: str, filters: Sequence[object], length: int) -> list[str | int] | None:
    """The position in a token, `length` values; None for the empty token.

    Raises InvalidArgument, reason INVALID_PAGE_TOKEN, if the token is not ours
    or was made under other filters.
    """
    if not token:
        return None
    try:
        body = json.loads(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
    except ValueError as error:
        raise _bad(token) from error
    if not isinstance(body, list) or len(body) != length + 1 or body[0] != _digest(filters):
        raise _bad(token)
    position = body[1:]
    if not all(isinstance(value, str | int) for value in position):
        raise _bad(token)
    return position


def _digest(filters: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps([str(value) for value in filters]).encode()).hexdigest()[:12]


def _bad(token: str) -> InvalidArgument:
    text = (
        f"is `{token[:40]}`, which this list did not return for these filters. "
        "Repeat the first call without a token."
    )
    return InvalidArgument([Violation("page_token", text)], Reason.INVALID_PAGE_TOKEN)
