"""Any history of messages, repeated, overlapping, early or cut off, stores what a dict would."""

from __future__ import annotations

import math

import pytest
from grpc.aio import AioRpcError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tunix_rt.v1 import job_service_pb2, registry_service_pb2, run_pb2

METRICS = ("a", "b")
VALUES = st.one_of(st.integers(-3, 3).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))
POINTS = st.lists(st.tuples(st.sampled_from(METRICS), st.integers(1, 9), VALUES), min_size=1, max_size=12)
MESSAGES = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 5), st.booleans()), max_size=8)


class Model:
    """What is stored, by attempt, kept as simply as can be."""

    def __init__(self):
        self.attempts: list[list] = []

    def curve(self, metric):
        kept: dict[int, float] = {}
        for stored in self.attempts:
            if stored:
                first = min(step for _, step, _ in stored)
                kept = {step: value for step, value in kept.items() if step < first}
            kept.update({step: value for name, step, value in stored if name == metric})
        return sorted(kept.items())


class Sender:
    """One attempt that sends messages over streams which may break."""

    def __init__(self, registry, job, points):
        self.registry, self.job, self.points = registry, job, points
        self.committed, self.stream = 0, None

    async def send(self, start, count):
        points = [
            run_pb2.MetricPoint(metric=metric, step=step, value=value)
            for metric, step, value in self.points[start : start + count]
        ]
        if self.stream is None:
            self.stream = self.registry.jobs.StreamMetrics()
            first = job_service_pb2.StreamMetricsRequest(name=self.job.name, attempt=self.job.status.attempt)
            await self.stream.write(first)
            assert (await self.stream.read()).committed == self.committed
        await self.stream.write(job_service_pb2.StreamMetricsRequest(offset=start, points=points))
        if start > self.committed:
            await self.stream.done_writing()  # the server reads on until then before it tells the error
            with pytest.raises(AioRpcError, match="are stored for this attempt"):
                await self.stream.read()
            self.stream = None
        else:
            self.committed = max(self.committed, start + len(points))
            assert (await self.stream.read()).committed == self.committed

    def cut(self):
        if self.stream is not None:
            self.stream.cancel()
        self.stream = None


async def check(registry, run, model):
    listed = await registry.registry.ListMetrics(registry_service_pb2.ListMetricsRequest(run=run))
    found = [(point.attempt, point.metric, point.step, point.value) for point in listed.points]
    expected = [(n, *point) for n, stored in enumerate(model.attempts, start=1) for point in stored]
    assert str(found) == str(expected)  # as texts, since NaN is not equal to itself
    request = registry_service_pb2.GetCurvesRequest(runs=[run], metrics=METRICS)
    curves = (await registry.registry.GetCurves(request)).curves
    found = {curve.metric: list(zip(curve.steps, curve.values, strict=True)) for curve in curves}
    wanted = {metric: model.curve(metric) for metric in METRICS if model.curve(metric)}
    assert str(found) == str(wanted)
    summaries = (await registry.registry.GetRun(registry_service_pb2.GetRunRequest(name=run))).metrics
    assert {each.metric: each.count for each in summaries} == {m: len(c) for m, c in wanted.items()}
    for each in summaries:
        numbers = [value for _, value in wanted[each.metric] if not math.isnan(value)] or [math.nan]
        last_step, last = wanted[each.metric][-1]
        assert str((each.min, each.max)) == str((min(numbers), max(numbers)))
        assert str((each.last_step, each.last)) == str((last_step, last))


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ],  # shrinking would take minutes
)
@given(history=st.lists(st.tuples(POINTS, MESSAGES), min_size=1, max_size=3))
async def test_any_history_stores_what_a_dict_would(registry, history):
    job, model = await registry.running(), Model()
    for number, (points, messages) in enumerate(history):
        if number:
            job = await registry.next_attempt(job)
        sender = Sender(registry, job, points)
        for start, count, cut in messages:
            if start < len(points):
                await sender.send(start, count)
            if cut:
                sender.cut()
        model.attempts.append(points[: sender.committed])
        await check(registry, job.name, model)
        sender.cut()
