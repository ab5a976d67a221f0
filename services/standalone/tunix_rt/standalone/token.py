"""Sends the gateway's token with every call of a channel."""

from __future__ import annotations

from typing import Any

import grpc


def with_token(channel: grpc.Channel, token: str) -> grpc.Channel:
    """The channel that sends `authorization: Bearer TOKEN`; the same one if the token is empty."""
    return grpc.intercept_channel(channel, _TokenInterceptor(token)) if token else channel


class _TokenInterceptor(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor
):
    def __init__(self, token: str) -> None:
        self._entry = ("authorization", f"Bearer {token}")

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._with_entry(client_call_details), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._with_entry(client_call_details), request)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(self._with_entry(client_call_details), request_iterator)

    def _with_entry(self, details: Any) -> grpc.ClientCallDetails:
        return _Details(details, (*(details.metadata or ()), self._entry))


class _Details(grpc.ClientCallDetails):
    def __init__(self, known: Any, metadata: Any) -> None:
        self.method = known.method
        self.timeout = known.timeout
        self.metadata = metadata
        self.credentials = known.credentials
        self.wait_for_ready = known.wait_for_ready
        self.compression = known.compression
