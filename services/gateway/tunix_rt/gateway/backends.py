"""The services behind the gateway: their channels, and what becomes of their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.errors import ApiError, Reason, Unavailable, Unimplemented
from tunix_rt.rpc.status import DETAILS_KEY
from tunix_rt.v1.job_service_pb2_grpc import JobServiceStub
from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub

CHECK_SECONDS = 2.0
FORWARDED = {
    "tunix_rt.v1.RegistryService": "registry",
    "tunix_rt.v1.TrainerService": "trainer",
    "tunix_rt.v1.EvaluatorService": "evaluator",
}


@dataclass(frozen=True)
class Backend:
    """One service: its short name, its address and a channel that does not retry.

    Callers of the gateway retry by themselves; retrying here too would multiply the attempts.
    """

    name: str
    address: str
    channel: grpc.aio.Channel


class Backends:
    """The channels of the gateway; `registry` and `jobs` are stubs for its own calls, which retry."""

    def __init__(self, *, registry: str, trainer: str, evaluator: str) -> None:
        addresses = {"registry": registry, "trainer": trainer, "evaluator": evaluator}
        self.by_name = {
            name: Backend(name, address, open_channel(address, retries=False))
            for name, address in addresses.items()
        }
        self._retrying = open_channel(registry)
        self.registry: Any = RegistryServiceStub(self._retrying)
        self.jobs: Any = JobServiceStub(self.by_name["registry"].channel)

    def forwarded(self) -> dict[str, Backend]:
        """The backend of each forwarded service, by the service's full name."""
        return {service: self.by_name[name] for service, name in FORWARDED.items()}

    async def close(self) -> None:
        """Closes all channels."""
        for backend in self.by_name.values():
            await backend.channel.close(None)
        await self._retrying.close(None)


async def check_backend(backend: Backend) -> None:
    """Returns if a backend serves. Raises Unavailable, reason SERVICE_UNAVAILABLE."""
    try:
        answer = await health_pb2_grpc.HealthStub(backend.channel).Check(
            health_pb2.HealthCheckRequest(), timeout=CHECK_SECONDS
        )
    except grpc.aio.AioRpcError as error:
        reason = f"{backend.address}: {error.code().name}: {error.details()}"
        raise Unavailable(Reason.SERVICE_UNAVAILABLE, reason, {"service": backend.name}) from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        lacking = [name for name in ("database", "blobs") if await _lacks(backend, name)]
        why = f"{' and '.join(lacking)} not reached" if lacking else "it starts or stops"
        raise Unavailable(Reason.SERVICE_UNAVAILABLE, f"{backend.address}: {why}", {"service": backend.name})


async def _lacks(backend: Backend, name: str) -> bool:
    """Whether a backend says that what it depends on under a name is away."""
    stub = health_pb2_grpc.HealthStub(backend.channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=CHECK_SECONDS)
    except grpc.aio.AioRpcError:
        return False  # it depends on nothing of that name
    return bool(answer.status == health_pb2.HealthCheckResponse.NOT_SERVING)


def own_error(error: grpc.RpcError, backend: str, method: str) -> ApiError | None:
    """The error to raise where a failed call says nothing by itself; None where the backend's status stands.

    A backend that is away cannot send details, nor does gRPC for a method that a server lacks.
    """
    trailing: Any = error.trailing_metadata() or ()
    if any(key == DETAILS_KEY for key, _ in trailing):
        return None
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(
            Reason.SERVICE_UNAVAILABLE,
            f"The {backend} does not answer ({error.details()}). "
            "Try again; `tunix-rt status` shows the services.",
            {"service": backend},
        )
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return unknown_method(method)
    return None


def unknown_method(method: str) -> Unimplemented:
    """The error of a method that does not exist behind the gateway."""
    return Unimplemented(
        Reason.UNKNOWN_METHOD,
        f"`{method}` is no method of this gateway. Server reflection lists the services and methods.",
        {"method": method},
    )


async def pass_on(
    error: grpc.aio.AioRpcError,
    context: grpc.aio.ServicerContext[Any, Any],
    *,
    backend: str,
    method: str,
) -> NoReturn:
    """Ends the call as the backend's call ended, with code, message and details."""
    own = own_error(error, backend, method)
    if own is not None:
        raise own from error
    await context.abort(
        error.code(), error.details() or "", trailing_metadata=tuple(error.trailing_metadata() or ())
    )
    raise AssertionError("abort returns never")
