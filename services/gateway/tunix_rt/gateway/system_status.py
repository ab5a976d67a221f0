"""Asks the services how they are."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunix_rt.gateway.backends import Backend, Backends
from tunix_rt.v1 import gateway_service_pb2, job_pb2, job_service_pb2

CHECK_SECONDS = 2.0
ServiceStatus = gateway_service_pb2.ServiceStatus


async def read_system_status(backends: Backends) -> gateway_service_pb2.SystemStatus:
    """The health of each service, the jobs in the queue and the version of the gateway.

    The queue is empty where the registry does not answer; its own row says so.
    """
    queue = asyncio.create_task(_count_jobs(backends))
    services = await asyncio.gather(*(_check(backend) for backend in backends.by_name.values()))
    return gateway_service_pb2.SystemStatus(
        services=[*services, ServiceStatus(service="gateway", serving=True)],
        queue=await queue,
        version=version("tunix-rt"),
    )


async def _check(backend: Backend) -> ServiceStatus:
    stub = health_pb2_grpc.HealthStub(backend.channel)
    started = time.monotonic()
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=CHECK_SECONDS)
    except grpc.aio.AioRpcError as error:
        reason = f"{backend.address}: {error.code().name}: {error.details()}"
        return ServiceStatus(service=backend.name, serving=False, reason=reason)
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return ServiceStatus(
        service=backend.name,
        serving=serving,
        reason="" if serving else f"{backend.address}: it starts or stops",
        round_trip=Duration(nanos=min(999_999_999, int((time.monotonic() - started) * 1e9))),
    )


async def _count_jobs(backends: Backends) -> list[job_pb2.QueueCount]:
    try:
        answer = await backends.jobs.CountJobs(job_service_pb2.CountJobsRequest(), timeout=CHECK_SECONDS)
    except grpc.aio.AioRpcError:
        return []
    return list(answer.counts)
