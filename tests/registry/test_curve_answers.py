"""GetCurves through the API: axes, ranges, smoothing, buckets and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunix_rt.v1 import registry_service_pb2 as pb
from tunix_rt.v1 import run_pb2

Axis = pb.GetCurvesRequest
START = 1_760_000_000


async def curves(registry, *runs, metrics=("train/loss",), **fields):
    request = pb.GetCurvesRequest(runs=runs, metrics=metrics, **fields)
    return (await registry.registry.GetCurves(request)).curves


def point(step, value, metric="train/loss"):
    made = run_pb2.MetricPoint(metric=metric, step=step, value=value)
    made.measure_time.seconds = START + step
    return made


def loss(steps, value=1.0):
    return [point(step, value) for step in steps]


def timed(step, value, seconds, metric="train/loss"):
    made = point(step, value, metric)
    made.measure_time.FromMicroseconds(round((START + seconds) * 1e6))
    return made


async def test_wall_time_is_seconds_since_1970(registry):
    job = await registry.running()
    await registry.send_points(job, [timed(1, 5.0, 0.5), timed(2, 4.0, 2.25)])
    (curve,) = await curves(registry, job.name, axis=Axis.WALL_TIME)
    assert list(curve.places) == [START + 0.5, START + 2.25]
    assert list(curve.values) == [5.0, 4.0]


async def test_relative_time_counts_from_the_first_point_of_any_metric_and_attempt(registry):
    first = await registry.running()
    await registry.send_points(first, [timed(1, 0.1, 10, "train/lr"), timed(1, 5.0, 11), timed(2, 4.0, 12)])
    second = await registry.next_attempt(first)
    await registry.send_points(second, [timed(2, 3.0, 70), timed(3, 2.0, 71)])
    (curve,) = await curves(registry, first.name, axis=Axis.RELATIVE_TIME)
    assert (list(curve.places), list(curve.values)) == ([1, 60, 61], [5.0, 3.0, 2.0])


@pytest.mark.parametrize(("axis", "metric"), [(Axis.TOKENS, "train/tokens"), (Axis.EPOCH, "train/epoch")])
async def test_a_metric_is_laid_out_over_another_at_the_same_step(registry, axis, metric):
    job = await registry.running()
    await registry.send_points(job, [*loss([1, 2, 3]), point(1, 0.25, metric), point(3, 0.75, metric)])
    (curve,) = await curves(registry, job.name, axis=axis)
    assert (list(curve.steps), list(curve.places), curve.total_count) == ([1, 3], [0.25, 0.75], 2)


async def test_a_curve_without_places_is_left_out(registry):
    job = await registry.running()
    bare = point(1, 1.0)
    bare.ClearField("measure_time")
    await registry.send_points(job, [bare])
    assert not await curves(registry, job.name, axis=Axis.TOKENS)
    assert not await curves(registry, job.name, axis=Axis.WALL_TIME)
    assert len(await curves(registry, job.name)) == 1


async def test_without_the_time_of_the_first_point_no_relative_time_is_known(registry):
    job = await registry.running()
    bare = point(1, 1.0)
    bare.ClearField("measure_time")
    await registry.send_points(job, [bare])
    await registry.send_points(job, [timed(2, 1.0, 5)], 1)
    assert not await curves(registry, job.name, axis=Axis.RELATIVE_TIME)
    (curve,) = await curves(registry, job.name, axis=Axis.WALL_TIME)
    assert list(curve.places) == [START + 5]


async def test_a_range_counts_its_points_and_samples_them_alone(registry):
    job = await registry.running()
    await registry.send_points(job, [point(step, float(step)) for step in range(1, 2001)], size=500)
    (curve,) = await curves(registry, job.name, x_low=101, x_high=200.5, max_points=1000)
    assert (list(curve.steps), curve.total_count) == (list(range(101, 201)), 100)
    assert not curve.places
    (open_ended,) = await curves(registry, job.name, x_low=1999)
    assert list(open_ended.steps) == [1999, 2000]


async def test_smoothing_is_over_the_whole_curve_whatever_is_shown(registry):
    job = await registry.running()
    await registry.send_points(job, [point(1, 8.0), *loss(range(2, 1001), 0.0)])
    (curve,) = await curves(registry, job.name, smoothing=0.5, x_low=2, max_points=2)
    assert list(curve.values) == [0.0, 0.0]
    np.testing.assert_allclose(curve.smoothed[0], 8 * 0.25 / 0.75)


async def test_buckets_of_all_curves_share_one_grid(registry):
    short, long = await registry.running(), await registry.running()
    await registry.send_points(short, [point(1, 3.0), point(2, -1.0), point(45, 2.0)])
    await registry.send_points(long, [*loss(range(1, 102), 0.0), point(50, math.nan, "x")])
    found = await curves(
        registry,
        short.name,
        long.name,
        metrics=["train/loss", "x"],
        buckets=True,
        max_points=10,
        smoothing=0.5,
    )
    assert [(each.run, each.metric) for each in found] == [
        (short.name, "train/loss"), (long.name, "train/loss"), (long.name, "x"),
    ]  # fmt: skip
    first = found[0].buckets
    assert (list(first.index), list(first.x), list(first.count)) == ([0, 4], [1, 45], [2, 1])
    assert (list(first.first), list(first.last)) == ([3.0, 2.0], [-1.0, 2.0])
    assert (list(first.min), list(first.max)) == ([-1.0, 2.0], [3.0, 2.0])
    np.testing.assert_allclose(first.smoothed, [(0.75 - 0.5) / 0.75, (0.375 - 0.25 + 1) / 0.875])
    assert list(found[1].buckets.index) == list(range(10))
    assert found[2].buckets.index == [4]
    assert not found[0].steps


async def test_a_whole_curve_has_every_point(registry):
    job = await registry.running()
    await registry.send_points(job, [point(step, float(step)) for step in range(1, 3001)])
    (curve,) = await curves(registry, job.name, whole=True, max_points=2)
    assert list(curve.values) == [float(step) for step in range(1, 3001)]


async def test_all_bad_fields_are_named_together(registry):
    job = await registry.running()
    failure = await registry.failure_of(
        curves(registry, job.name, "nonsense", metrics=["a", "a"], axis=9, x_low=2, x_high=1, smoothing=1,
               buckets=True, whole=True, max_points=1)
    )  # fmt: skip
    assert set(failure.fields) == {
        "runs[1]", "metrics", "axis", "x_low", "smoothing", "buckets", "max_points",
    }  # fmt: skip
    failure = await registry.failure_of(curves(registry, job.name, x_high=math.nan, smoothing=math.nan))
    assert set(failure.fields) == {"x_high", "smoothing"}
