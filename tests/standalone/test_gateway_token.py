"""The token that the gateway asks for goes with every call."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tunix_rt.standalone.connection import connect
from tunix_rt.v1 import gateway_service_pb2, registry_service_pb2


class Listening(grpc.GenericRpcHandler):
    """Answers every call with nothing and keeps the authorization it came with."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str | None]] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        metadata = dict(handler_call_details.invocation_metadata)
        self.heard.append((handler_call_details.method.rsplit("/")[-1], metadata.get("authorization")))
        return grpc.stream_stream_rpc_method_handler(lambda requests, context: iter([b""]))


@pytest.fixture
def gateway() -> Iterator[tuple[str, Listening]]:
    listening = Listening()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[listening])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", listening
    server.stop(None).wait()


def call_all_kinds(address: str) -> None:
    with connect(address) as connection:
        connection.gateway.GetSystemStatus(gateway_service_pb2.GetSystemStatusRequest(), timeout=10)
        list(connection.gateway.WatchRun(gateway_service_pb2.WatchRunRequest(), timeout=10))
        list(connection.registry.AppendTraces(iter([registry_service_pb2.AppendTracesRequest()]), timeout=10))


def test_the_token_goes_with_unary_and_streaming_calls(
    gateway: tuple[str, Listening], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, listening = gateway
    monkeypatch.setenv("TUNIX_RT_TOKEN", "secret")
    call_all_kinds(address)
    assert listening.heard == [
        ("GetSystemStatus", "Bearer secret"),
        ("WatchRun", "Bearer secret"),
        ("AppendTraces", "Bearer secret"),
    ]


def test_without_a_token_nothing_is_sent(
    gateway: tuple[str, Listening], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, listening = gateway
    monkeypatch.delenv("TUNIX_RT_TOKEN", raising=False)
    call_all_kinds(address)
    assert [authorization for _, authorization in listening.heard] == [None, None, None]
