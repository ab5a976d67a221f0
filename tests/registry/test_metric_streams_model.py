"""Any history of metric streams, several at once over two registries, stores what lists would."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from google.rpc import status_pb2
from grpc.aio import EOF, AioRpcError
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tunix_rt.rpc.status import reason_of, status_of
from tunix_rt.v1 import job_service_pb2, registry_service_pb2, run_pb2

METRICS = ("a", "b")
LAST, MIN, MAX = 1, 2, 3
VALUES = st.one_of(st.integers(-3, 3).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))
POINTS = st.lists(st.tuples(st.sampled_from(METRICS), st.integers(1, 9), VALUES), min_size=6, max_size=12)
PLACES = st.integers(0, 5)
Point = tuple[str, int, float]


@dataclass
class Run:
    """What the worker of each attempt has measured, and how many points of it are stored."""

    job: job_service_pb2.Job
    points: list[list[Point]]
    stored: list[int] = field(default_factory=lambda: [0])

    @property
    def attempt(self) -> int:
        return len(self.points)

    def receive(self, attempt: int, start: int, count: int) -> int | str:
        """The answer to a message: how many points are stored, or why it is refused."""
        if attempt != self.attempt:
            return "LEASE_LOST"
        if start > self.stored[-1]:
            return "STREAM_GAP"
        self.stored[-1] = max(self.stored[-1], min(start + count, len(self.points[-1])))
        return self.stored[-1]

    def listed(self) -> list[tuple[int, str, int, float]]:
        attempts = enumerate(zip(self.points, self.stored, strict=True), start=1)
        return [(number, *point) for number, (points, stored) in attempts for point in points[:stored]]

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """For each step the newest attempt, which counts from its first step on."""
        kept: dict[int, float] = {}
        for number in range(1, self.attempt + 1):
            measured = [
                (name, step, value) for attempt, name, step, value in self.listed() if attempt == number
            ]
            first = min((step for _, step, _ in measured), default=math.inf)
            kept = {step: value for step, value in kept.items() if step < first}
            kept.update({step: value for name, step, value in measured if name == metric})
        return sorted(kept.items())

    def summary(self, metric: str) -> dict[int, float]:
        """The last, the least and the greatest value, NaN only where there is no other."""
        curve = self.curve(metric)
        numbers = [value for _, value in curve if not math.isnan(value)] or [math.nan]
        return {LAST: curve[-1][1], MIN: min(numbers), MAX: max(numbers)} if curve else {}


@dataclass
class Stream:
    """A stream that is open."""

    run: Run
    attempt: int
    call: Any


class Ingestion(RuleBasedStateMachine):
    """Two runs, the streams of their attempts, and what is stored as it should be."""

    def __init__(self, registries: tuple[Any, Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.registries, self.loop = registries, loop
        self.runs: list[Run] = []
        self.streams: list[Stream] = []

    @initialize(points=st.tuples(POINTS, POINTS))
    def start(self, points: tuple[list[Point], list[Point]]) -> None:
        with psycopg.connect(self.registries[0].database, autocommit=True) as connection:
            connection.execute("TRUNCATE jobs CASCADE")
        self.runs = [Run(self.wait(self.registries[0].running()), [each]) for each in points]
        for run in self.runs:
            self.open_on(run, registry=0, back=0)

    def wait(self, answer: Any) -> Any:
        return self.loop.run_until_complete(answer)

    @precondition(lambda self: len(self.streams) < 5)
    @rule(place=PLACES, registry=st.integers(0, 1), back=st.sampled_from([0, 0, 0, 1]))
    def open(self, place: int, registry: int, back: int) -> None:
        self.open_on(self.runs[place % 2], registry=registry, back=back)

    def open_on(self, run: Run, *, registry: int, back: int) -> None:
        stream = Stream(run, run.attempt - back, self.registries[registry].jobs.StreamMetrics())
        first = job_service_pb2.StreamMetricsRequest(name=run.job.name, attempt=stream.attempt)
        answers = self.wait(exchange(stream.call, [first], ends=bool(back)))
        if back:
            assert answers == ["LEASE_LOST"]
        else:
            assert answers == run.stored[-1:]
            self.streams.append(stream)

    @precondition(lambda self: self.streams)
    @rule(
        place=PLACES,
        start=st.integers(-6, 2),
        counts=st.lists(st.integers(1, 5), max_size=4),
        swapped=st.booleans(),
    )
    def send(self, place: int, start: int, counts: list[int], swapped: bool) -> None:
        """Messages in a row, without waiting for answers: repeated, overlapping, early, reordered."""
        stream = self.streams[place % len(self.streams)]
        run, points = stream.run, stream.run.points[stream.attempt - 1]
        begin = max(0, run.stored[stream.attempt - 1] + start)
        chunks = [(begin + sum(counts[:index]), count) for index, count in enumerate(counts)]
        chunks = [(first, count) for first, count in chunks if first < len(points)]
        if swapped:
            chunks.reverse()
        expected: list[int | str] = []
        for first, count in chunks:
            if not expected or isinstance(expected[-1], int):
                expected.append(run.receive(stream.attempt, first, count))
        messages = [message(first, points[first : first + count]) for first, count in chunks]
        ends = bool(expected) and isinstance(expected[-1], str)
        assert self.wait(exchange(stream.call, messages, ends=ends)) == expected
        if ends:
            self.streams.remove(stream)

    @precondition(lambda self: self.streams)
    @rule(place=PLACES)
    def cut(self, place: int) -> None:
        self.streams.pop(place % len(self.streams)).call.cancel()

    @rule(place=PLACES, points=POINTS)
    def next_attempt(self, place: int, points: list[Point]) -> None:
        """The streams of the attempt before stay open, and are refused from now on."""
        run = self.runs[place % 2]
        if run.attempt < 3:
            run.job = self.wait(self.registries[0].next_attempt(run.job))
            run.points.append(points)
            run.stored.append(0)
            self.open_on(run, registry=1, back=0)

    def teardown(self) -> None:
        for stream in self.streams:
            stream.call.cancel()
        for run in self.runs:
            self.wait(self.check(run))
        self.wait(self.check_lists())

    async def check(self, run: Run) -> None:
        registry, name = self.registries[0].registry, run.job.name
        listed = (await registry.ListMetrics(registry_service_pb2.ListMetricsRequest(run=name))).points
        found = [(point.attempt, point.metric, point.step, point.value) for point in listed]
        assert str(found) == str(run.listed())  # as texts, since NaN is not equal to itself
        request = registry_service_pb2.GetCurvesRequest(runs=[name], metrics=METRICS)
        curves = (await registry.GetCurves(request)).curves
        found = {curve.metric: list(zip(curve.steps, curve.values, strict=True)) for curve in curves}
        wanted = {metric: run.curve(metric) for metric in METRICS if run.curve(metric)}
        assert str(found) == str(wanted)
        summaries = (await registry.GetRun(registry_service_pb2.GetRunRequest(name=name))).metrics
        assert str(
            {s.metric: (s.count, s.last_step, {LAST: s.last, MIN: s.min, MAX: s.max}) for s in summaries}
        ) == str(
            {metric: (len(curve), curve[-1][0], run.summary(metric)) for metric, curve in wanted.items()}
        )

    async def check_lists(self) -> None:
        """Lists find the ended runs by the values of their metrics."""
        registry = self.registries[0]
        for run in self.runs:
            end = job_service_pb2.FinishJobRequest(name=run.job.name, attempt=run.attempt)
            end.error.CopyFrom(status_pb2.Status(code=13, message="stopped"))
            await registry.jobs.FinishJob(end)
        for statistic in (LAST, MIN, MAX):
            values = [run.summary("a").get(statistic, math.nan) for run in self.runs]
            for value in {each for each in values if math.isfinite(each)}:
                wanted = registry_service_pb2.ListRunsRequest()
                wanted.filter.metrics.add(metric="a", statistic=statistic, low=value, high=value)
                found = {run.name for run in (await registry.registry.ListRuns(wanted)).runs}
                assert found == {
                    run.job.name for run, own in zip(self.runs, values, strict=True) if own == value
                }


def message(offset: int, points: list[Point]) -> job_service_pb2.StreamMetricsRequest:
    made = [run_pb2.MetricPoint(metric=metric, step=step, value=value) for metric, step, value in points]
    return job_service_pb2.StreamMetricsRequest(offset=offset, points=made)


async def exchange(call: Any, messages: list[Any], *, ends: bool) -> list[int | str]:
    """The answers to messages that are written at once; the last is the reason where the stream ends."""
    for each in messages:
        await call.write(each)
    if ends:
        await call.done_writing()  # the server reads on until then before it tells the error
    answers: list[int | str] = []
    try:
        while (ends or len(answers) < len(messages)) and (answer := await call.read()) is not EOF:
            answers.append(answer.committed)
    except AioRpcError as error:
        answers.append(reason_of(status_of(error)))
    return answers


@pytest.fixture
async def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_any_history_of_streams_stores_what_the_model_has(open_registry, loop):
    first = loop.run_until_complete(open_registry())
    second = loop.run_until_complete(open_registry(database=first.database))
    run_state_machine_as_test(
        lambda: Ingestion((first, second), loop),
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take minutes
        ),
    )
