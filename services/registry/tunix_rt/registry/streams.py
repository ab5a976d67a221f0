"""Offsets in streams of requests."""

from __future__ import annotations

from tunix_rt.rpc.errors import InvalidArgument, OutOfRange, Reason


def check_offset(offset: int, committed: int, name: str) -> None:
    """Raises OutOfRange, reason STREAM_GAP, if the offset is beyond what is stored."""
    if offset < 0:
        raise InvalidArgument.of("offset", f"is {offset}; it must not be negative.")
    if offset > committed:
        raise OutOfRange(
            Reason.STREAM_GAP,
            f"offset is {offset}, but {committed} are stored for this attempt of `{name}`."
            f" Go on at {committed}.",
            {"resource": name, "offset": offset, "committed": committed},
        )
