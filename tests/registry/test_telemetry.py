"""The registry's page of metrics says what was stored, what waits and what is in use."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tunix_rt.v1 import job_service_pb2, run_pb2


@pytest.fixture
def value(registry):
    async def read(name, **labels):
        page = await asyncio.to_thread(generate_latest, registry.server.metrics.registry)
        samples = [
            each for family in text_string_to_metric_families(page.decode()) for each in family.samples
        ]
        return next((each.value for each in samples if each.name == name and each.labels == labels), None)

    return read


async def test_points_that_are_sent_again_count_once(registry, value):
    job = await registry.running()
    points = [run_pb2.MetricPoint(metric="m", step=step, value=1) for step in range(1, 31)]
    await registry.send_points(job, points, size=10)
    await registry.send_points(job, points[20:], offset=20)
    assert await value("tunix_rt_metric_points_total") == 30


async def test_lines_and_traces_are_counted(registry, value):
    job = await registry.running()

    async def messages():
        yield job_service_pb2.StreamLogsRequest(name=job.name, attempt=1, lines=["a", "b"])

    assert [answer.committed async for answer in registry.jobs.StreamLogs(messages())] == [0, 2]
    assert await value("tunix_rt_log_lines_total") == 2
    assert await value("tunix_rt_traces_total") == 30


async def test_jobs_are_counted_by_kind_and_state(registry, value):
    await registry.enqueue()
    await registry.running()
    assert await value("tunix_rt_jobs", kind="run", state="QUEUED") == 1
    assert await value("tunix_rt_jobs", kind="run", state="RUNNING") == 1


async def test_the_pool_is_measured(registry, value):
    assert await value("tunix_rt_database_waiting") == 0
    assert await value("tunix_rt_database_connections", state="idle") >= 0
