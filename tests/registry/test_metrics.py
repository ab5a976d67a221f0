"""Metrics through the API: acknowledged, deduplicated, summarised, sampled, waited for."""

from __future__ import annotations

import asyncio
import math

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tunix_rt.v1 import job_pb2, job_service_pb2, registry_service_pb2, run_pb2


def point(step, value, metric="train/loss"):
    made = run_pb2.MetricPoint(metric=metric, step=step, value=value)
    made.measure_time.FromMicroseconds(1_760_000_000_000_000 + step)
    return made


def loss(steps, value=1.0):
    return [point(step, value) for step in steps]


async def send(registry, job, points, offset=0, *, size=1000):
    return await registry.send_points(job, points, offset, size=size)


async def list_metrics(registry, run, token="", **fields):
    request = registry_service_pb2.ListMetricsRequest(run=run, resume_token=token, **fields)
    return await registry.registry.ListMetrics(request)


async def get_curves(registry, runs, metrics, max_points=0):
    request = registry_service_pb2.GetCurvesRequest(runs=runs, metrics=metrics, max_points=max_points)
    return (await registry.registry.GetCurves(request)).curves


async def summaries(registry, run):
    made = await registry.registry.GetRun(registry_service_pb2.GetRunRequest(name=run))
    return {summary.metric: summary for summary in made.metrics}


async def test_points_come_back_in_order_as_they_were_sent(registry):
    job = await registry.running()
    points = [
        point(step, step / 2 + shift, metric)
        for step in range(1, 6)
        for shift, metric in enumerate(("train/loss", "train/lr", "validation/loss"))
    ]
    assert await send(registry, job, points, size=4) == [0, 4, 8, 12, 15]
    response = await list_metrics(registry, job.name)
    for expected in points:
        expected.attempt = 1
    assert list(response.points) == points
    assert response.state == job_pb2.JOB_STATE_RUNNING


async def test_duplicates_are_no_points_and_overlaps_store_the_rest(registry):
    job = await registry.running()
    points = loss(range(1, 11))
    assert await send(registry, job, points[:6]) == [0, 6]
    assert await send(registry, job, points[:6]) == [6, 6]
    assert await send(registry, job, points[3:], 3) == [6, 10]
    assert [p.step for p in (await list_metrics(registry, job.name)).points] == list(range(1, 11))
    assert (await summaries(registry, job.name))["train/loss"].count == 10


async def test_a_gap_is_refused(registry):
    job = await registry.running()
    failure = await registry.failure_of(send(registry, job, loss([1]), 1))
    assert (failure.code, failure.reason) == (grpc.StatusCode.OUT_OF_RANGE, "STREAM_GAP")
    assert not (await list_metrics(registry, job.name)).points


async def test_two_streams_of_one_attempt_store_each_point_once(registry):
    job = await registry.running()
    points = loss(range(1, 201))
    await asyncio.gather(*(send(registry, job, points, size=20) for _ in range(4)))
    assert [p.step for p in (await list_metrics(registry, job.name)).points] == list(range(1, 201))
    assert (await summaries(registry, job.name))["train/loss"].count == 200


async def test_a_stale_attempt_is_aborted(registry):
    first = await registry.running()
    await send(registry, first, loss([1, 2]))
    await registry.next_attempt(first)
    failure = await registry.failure_of(send(registry, first, loss([3]), 2))
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "LEASE_LOST")


async def test_nan_and_infinities_are_kept_and_stay_out_of_the_extremes(registry):
    job = await registry.running()
    values = [2.0, math.nan, math.inf, 1.0, -math.inf, math.nan]
    await send(registry, job, [point(i + 1, value) for i, value in enumerate(values)])
    stored = [p.value for p in (await list_metrics(registry, job.name)).points]
    assert str(stored) == str(values)
    summary = (await summaries(registry, job.name))["train/loss"]
    assert (summary.min, summary.min_step, summary.max, summary.max_step) == (-math.inf, 5, math.inf, 3)
    assert math.isnan(summary.last)


async def test_summaries_grow_with_each_message_and_stream(registry):
    job = await registry.running()
    await send(registry, job, [point(1, 5.0), point(2, 3.0), point(3, 4.0)], size=1)
    await send(registry, job, [point(4, 9.0), point(5, 3.5)], 3)
    summary = (await summaries(registry, job.name))["train/loss"]
    assert (summary.last, summary.last_step, summary.count) == (3.5, 5, 5)
    assert (summary.min, summary.min_step, summary.max, summary.max_step) == (3.0, 2, 9.0, 4)


async def test_of_each_step_the_newest_attempt_counts(registry):
    first = await registry.running()
    await send(registry, first, [*loss([1, 2, 3, 4], 1.0), point(4, 1.0, "validation/loss")])
    second = await registry.next_attempt(first)
    await send(registry, second, loss([3, 4, 5], 2.0), size=1)

    (curve,) = await get_curves(registry, [first.name], ["train/loss", "validation/loss"])
    assert list(curve.steps) == [1, 2, 3, 4, 5]
    assert list(curve.values) == [1.0, 1.0, 2.0, 2.0, 2.0]
    found = await summaries(registry, first.name)
    assert list(found) == ["train/loss"]
    assert (found["train/loss"].count, found["train/loss"].last) == (5, 2.0)
    listed = (await list_metrics(registry, first.name)).points
    assert [(p.attempt, p.step) for p in listed if p.metric == "train/loss"] == [
        (1, 1), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (2, 5),
    ]  # fmt: skip


async def test_steps_out_of_order_are_summarised_like_their_curve(registry):
    job = await registry.running()
    await send(registry, job, [point(5, 1.0), point(3, 7.0), point(5, 2.0)])
    await send(registry, job, [point(4, 0.5)], 3)
    (curve,) = await get_curves(registry, [job.name], ["train/loss"])
    assert (list(curve.steps), list(curve.values)) == ([3, 4, 5], [7.0, 0.5, 2.0])
    summary = (await summaries(registry, job.name))["train/loss"]
    assert (summary.last, summary.min, summary.max, summary.count) == (2.0, 0.5, 7.0, 3)


async def test_curves_are_sampled_on_one_grid_and_say_how_many_points_there_were(registry):
    short, long = await registry.running(), await registry.running()
    await send(registry, short, [point(s, float(s)) for s in range(1, 101)])
    points = [point(s, 0.0) for s in range(1, 3001)]
    points[1234].value = 99.0
    await send(registry, long, points)
    curves = await get_curves(registry, [long.name, short.name], ["train/loss", "none"], 40)
    assert [(c.run, c.total_count) for c in curves] == [(long.name, 3000), (short.name, 100)]
    assert len(curves[0].steps) <= 40
    assert max(curves[0].values) == 99.0
    assert (curves[0].steps[0], curves[0].steps[-1]) == (1, 3000)
    assert list(curves[1].steps) == [1, 100]


async def test_points_are_listed_by_pages_that_resume(registry):
    job = await registry.running()
    await send(registry, job, [point(s, 0.0, f"m{s % 7}") for s in range(1, 2501)], size=300)
    steps, token = [], ""
    while True:
        page = await list_metrics(registry, job.name, token, page_size=700)
        if not page.points:
            break
        steps += [p.step for p in page.points]
        token = page.resume_token
    assert steps == list(range(1, 2501))
    await send(registry, job, loss([2501]), 2500)
    assert [p.step for p in (await list_metrics(registry, job.name, token)).points] == [2501]


async def test_many_metrics_in_one_message_are_listed(registry):
    job = await registry.running()
    points = [point(1, float(i), f"m/{i}") for i in range(1000)]
    await send(registry, job, points)
    await send(registry, job, [point(2, float(i), f"m/{i}") for i in range(1000)], 1000)
    values, token = [], ""
    while points := (page := await list_metrics(registry, job.name, token, page_size=1)).points:
        values += [p.value for p in points]
        token = page.resume_token
        if len(values) == 3:
            break
    assert values == [0.0, 1.0, 2.0]
    page = await list_metrics(registry, job.name, page_size=10_000)
    assert len(page.points) == 2000


async def test_a_list_that_waits_wakes_soon_after_a_point_on_another_registry(open_registry):
    first = await open_registry()
    second = await open_registry(database=first.database)
    job = await first.running()
    token = (await list_metrics(second, job.name)).resume_token
    waiting = asyncio.create_task(list_metrics(second, job.name, token, wait=Duration(seconds=20)))
    await list_metrics(second, job.name)  # the waiting call was sent before this one has answered
    await send(first, job, loss([1]))
    acknowledged = asyncio.get_running_loop().time()
    assert [p.step for p in (await waiting).points] == [1]
    assert asyncio.get_running_loop().time() - acknowledged < 0.2


async def test_a_list_that_waits_ends_with_the_run(registry):
    job = await registry.running()
    waiting = asyncio.create_task(list_metrics(registry, job.name, wait=Duration(seconds=20)))
    await registry.succeed_run(job)
    response = await waiting
    assert (response.state, len(response.points)) == (job_pb2.JOB_STATE_SUCCEEDED, 0)


async def test_a_wait_without_points_ends_in_time(registry):
    job = await registry.running()
    response = await list_metrics(registry, job.name, wait=Duration(nanos=50_000_000))
    assert not response.points
    assert response.resume_token


@pytest.mark.parametrize(
    ("points", "field"),
    [
        ([point(0, 1.0)], "points[0].step"),
        ([point(1, 1.0), point(2, 1.0, "a b")], "points[1].metric"),
        ([point(1, 1.0, "")], "points[0].metric"),
    ],
)
async def test_bad_points_are_refused_whole(registry, points, field):
    job = await registry.running()
    failure = await registry.failure_of(send(registry, job, points))
    assert list(failure.fields) == [field]
    assert not (await list_metrics(registry, job.name)).points


async def send_columns(registry, job, offset=0, **columns):
    async def messages():
        yield job_service_pb2.StreamMetricsRequest(
            name=job.name,
            attempt=job.status.attempt,
            offset=offset,
            columns=job_service_pb2.MetricColumns(**columns),
        )

    return [response.committed async for response in registry.jobs.StreamMetrics(messages())]


async def test_points_in_columns_are_stored_like_points(registry):
    job = await registry.running()
    stored = await send_columns(
        registry,
        job,
        metrics=["train/loss", "unused", "a"],
        metric_indices=[0, 2, 0],
        steps=[1, 1, 2],
        values=[0.5, math.inf, 0.25],
        measure_times_us=[1_760_000_000_000_001, 1_760_000_000_000_001, 1_760_000_000_000_002],
    )
    assert stored == [0, 3]
    expected = [point(1, 0.5), point(1, math.inf, "a"), point(2, 0.25)]
    for each in expected:
        each.attempt = 1
    assert list((await list_metrics(registry, job.name)).points) == expected
    assert sorted(await summaries(registry, job.name)) == ["a", "train/loss"]


async def test_bad_columns_are_all_named(registry):
    job = await registry.running()
    failure = await registry.failure_of(
        send_columns(
            registry,
            job,
            metrics=["a", "a", "b c"],
            metric_indices=[0, 3, -1],
            steps=[1, 0, 1],
            values=[1.0],
            measure_times_us=[1, 2, 3],
        )
    )
    assert set(failure.fields) == {
        "columns.metrics[2]",
        "columns.metrics",
        "columns.metric_indices[1]",
        "columns.metric_indices[2]",
        "columns.steps[1]",
        "columns.values",
    }


async def test_points_and_columns_in_one_message_are_refused(registry):
    job = await registry.running()
    columns = job_service_pb2.MetricColumns(
        metrics=["a"], metric_indices=[0], steps=[1], values=[1], measure_times_us=[1]
    )

    async def messages():
        yield job_service_pb2.StreamMetricsRequest(
            name=job.name, attempt=1, points=loss([1]), columns=columns
        )

    async def sent():
        return [response async for response in registry.jobs.StreamMetrics(messages())]

    assert list((await registry.failure_of(sent())).fields) == ["columns"]


async def test_messages_before_a_bad_one_are_stored(registry):
    job = await registry.running()
    failure = await registry.failure_of(send(registry, job, [*loss([1, 2, 3]), point(0, 1.0)], size=1))
    assert list(failure.fields) == ["points[0].step"]
    assert [p.step for p in (await list_metrics(registry, job.name)).points] == [1, 2, 3]


async def test_too_many_points_in_a_message_are_refused(registry):
    job = await registry.running()
    failure = await registry.failure_of(send(registry, job, loss(range(1, 1002)), size=1001))
    assert failure.reason == "LIMIT_EXCEEDED"


async def test_bad_requests_name_the_field(registry):
    job = await registry.running()

    async def fields(call):
        return list((await registry.failure_of(call)).fields)

    assert await fields(list_metrics(registry, "nonsense")) == ["run"]
    assert await fields(list_metrics(registry, job.name, "bogus")) == ["resume_token"]
    assert await fields(list_metrics(registry, job.name, page_size=-1)) == ["page_size"]
    assert await fields(list_metrics(registry, job.name, wait=Duration(seconds=31))) == ["wait"]
    assert await fields(get_curves(registry, [], ["a"])) == ["runs"]
    assert await fields(get_curves(registry, [job.name], ["a"], 1)) == ["max_points"]
    missing = await registry.failure_of(get_curves(registry, ["runs/none"], ["a"]))
    assert missing.code == grpc.StatusCode.NOT_FOUND
    other = await registry.running()
    token = (await list_metrics(registry, other.name)).resume_token
    assert await fields(list_metrics(registry, job.name, token)) == ["resume_token"]
