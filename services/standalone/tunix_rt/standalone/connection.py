"""The connection of a command to the gateway: one channel, the stubs of its services."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tunix_rt.rpc.channel import open_blocking_channel
from tunix_rt.standalone.state import StateDirectory
from tunix_rt.standalone.token import with_token
from tunix_rt.v1 import (
    evaluator_service_pb2_grpc,
    gateway_service_pb2_grpc,
    registry_service_pb2_grpc,
    trainer_service_pb2_grpc,
)

if TYPE_CHECKING:
    from tunix_rt.v1.evaluator_service_pb2_grpc import EvaluatorServiceStub
    from tunix_rt.v1.gateway_service_pb2_grpc import GatewayServiceStub
    from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub
    from tunix_rt.v1.trainer_service_pb2_grpc import TrainerServiceStub

TOKEN_VARIABLE = "TUNIX_RT_TOKEN"
DEFAULT_GATEWAY = "127.0.0.1:50050"
CALL_SECONDS = 30.0
LONG_CALL_SECONDS = 600.0


class Connection:
    """The stubs of all services behind a gateway."""

    def __init__(self, address: str) -> None:
        self.address = address
        token = os.environ.get(TOKEN_VARIABLE, "")
        self._channel = with_token(open_blocking_channel(address), token)
        self.registry: RegistryServiceStub = registry_service_pb2_grpc.RegistryServiceStub(self._channel)
        self.trainer: TrainerServiceStub = trainer_service_pb2_grpc.TrainerServiceStub(self._channel)
        self.evaluator: EvaluatorServiceStub = evaluator_service_pb2_grpc.EvaluatorServiceStub(self._channel)
        self.gateway: GatewayServiceStub = gateway_service_pb2_grpc.GatewayServiceStub(self._channel)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()


@contextmanager
def connect(address: str | None = None) -> Iterator[Connection]:
    """A connection to the gateway given, or to the one that `gateway_address` finds."""
    connection = Connection(gateway_address(address))
    try:
        yield connection
    finally:
        connection.close()


def gateway_address(given: str | None = None) -> str:
    """The address given, or that of the stack in the state folder, or `127.0.0.1:50050`."""
    if given:
        return given
    record = StateDirectory.locate().running()
    return record.gateway if record and record.gateway else DEFAULT_GATEWAY
