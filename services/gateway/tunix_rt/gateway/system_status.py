"""Asks the services how they are."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version

import grpc
from google.protobuf.duration_pb2 import Duration

from tunix_rt.gateway.backends import CHECK_SECONDS, Backend, Backends, check_backend
from tunix_rt.rpc.errors import Unavailable
from tunix_rt.v1 import gateway_service_pb2, job_pb2, job_service_pb2

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
    started = time.monotonic()
    try:
        await check_backend(backend)
    except Unavailable as error:
        return ServiceStatus(service=backend.name, serving=False, reason=error.message)
    return ServiceStatus(
        service=backend.name,
        serving=True,
        round_trip=Duration(nanos=min(999_999_999, int((time.monotonic() - started) * 1e9))),
    )


async def _count_jobs(backends: Backends) -> list[job_pb2.QueueCount]:
    try:
        answer = await backends.jobs.CountJobs(job_service_pb2.CountJobsRequest(), timeout=CHECK_SECONDS)
    except grpc.aio.AioRpcError:
        return []
    return list(answer.counts)
