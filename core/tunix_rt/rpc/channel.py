"""Opens channels that retry, keep alive and carry request ids alike in every client."""

from __future__ import annotations

import functools
import uuid
from importlib.resources import files
from typing import Any

import grpc

MAX_MESSAGE_BYTES = 16 * 1024 * 1024


def new_request_id() -> str:
    """A fresh request id for a call that creates."""
    return str(uuid.uuid4())


def open_channel(address: str, *, retries: bool = True) -> grpc.aio.Channel:
    """An asyncio channel to `host:port`; calls retry on UNAVAILABLE as the service config says.

    A service that calls another on behalf of a client turns `retries` off: the client retries, and
    retries of both would multiply.
    """
    return grpc.aio.insecure_channel(address, options=channel_options(retries=retries))


def open_blocking_channel(address: str) -> grpc.Channel:
    """A blocking channel to `host:port`, for scripts and the command line."""
    return grpc.insecure_channel(address, options=channel_options())


def channel_options(*, retries: bool = True) -> list[tuple[str, Any]]:
    """The options of every channel."""
    retrying = [("grpc.service_config", _service_config())] if retries else []
    return [
        *retrying,
        ("grpc.enable_retries", int(retries)),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]


@functools.cache
def _service_config() -> str:
    return (files("tunix_rt.v1") / "service_config.json").read_text()
