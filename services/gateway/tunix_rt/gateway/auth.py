"""Checks bearer tokens against the digests in the settings."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import Any

from tunix_rt.rpc.errors import Reason, Unauthenticated


class TokenGate:
    """Lets a caller in whose token has one of the digests; lets everybody in if there are none."""

    def __init__(self, digests: Sequence[str]) -> None:
        self._digests = [bytes.fromhex(digest) for digest in digests]

    @property
    def open(self) -> bool:
        """Whether nobody is asked for a token."""
        return not self._digests

    def accepts(self, token: str) -> bool:
        """Whether a token opens the gate; takes the same time whichever digest it has."""
        if self.open:
            return True
        digest = hashlib.sha256(token.encode()).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)

    def check(self, authorization: str | None) -> None:
        """Raises Unauthenticated unless the header is `Bearer` and a right token."""
        if self.open:
            return
        scheme, _, token = (authorization or "").partition(" ")
        if not token:
            raise Unauthenticated(
                Reason.UNAUTHENTICATED,
                "The call carries no token. Send the metadata `authorization: Bearer TOKEN`.",
            )
        if scheme.lower() != "bearer" or not self.accepts(token.strip()):
            raise Unauthenticated(
                Reason.UNAUTHENTICATED,
                "The token is not known here. Check it with whoever runs the gateway.",
            )

    def check_metadata(self, metadata: Iterable[tuple[str, Any]] | None) -> None:
        """As `check`, for the metadata of a gRPC call."""
        values = [value for key, value in metadata or () if key == "authorization"]
        self.check(str(values[0]) if values else None)
