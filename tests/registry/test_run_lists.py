"""Runs are filtered, ordered, projected and counted; pages stay stable while runs arrive."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.registry import run_pages
from tunix_rt.v1 import job_pb2, job_service_pb2, registry_service_pb2, run_pb2

NAN = float("nan")


@dataclass
class Runs:
    """A registry with a dataset and a model, and the steps of these tests."""

    registry: object
    dataset: str
    model: str

    async def make(self, name, **fields):
        """A queued run."""
        spec = run_pb2.RunSpec(model=self.model, dataset=self.dataset)
        ParseDict(fields.pop("spec", {}), spec)
        job = job_service_pb2.Job(name=f"runs/{name}", run=spec, **fields)
        await self.registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
        return f"runs/{name}"

    async def measured(self, name, values, **fields):
        """A run that has failed after measuring values of `validation/loss`."""
        await self.make(name, **fields)
        job = await self.registry.claim(worker=f"worker-{name}")
        await self.send(job, "validation/loss", values)
        error = job_service_pb2.FinishJobRequest(name=job.name, attempt=job.status.attempt)
        error.error.message = "stopped"
        await self.registry.jobs.FinishJob(error)
        return job.name

    async def send(self, job, metric, values):
        points = [
            run_pb2.MetricPoint(metric=metric, step=step, value=value)
            for step, value in enumerate(values, start=1)
        ]

        async def messages():
            yield job_service_pb2.StreamMetricsRequest(
                name=job.name, attempt=job.status.attempt, points=points
            )

        if points:
            assert [a.committed async for a in self.registry.jobs.StreamMetrics(messages())][-1] == len(
                points
            )

    async def list(self, **fields):
        return await self.registry.registry.ListRuns(
            ParseDict(fields, registry_service_pb2.ListRunsRequest())
        )

    async def ids(self, **fields):
        """The ids of the runs that a filter finds, newest first."""
        return [run.name.removeprefix("runs/") for run in (await self.list(filter=fields)).runs]

    async def ordered(self, page_size=50, **fields):
        """The ids of all runs in an order, page by page."""
        found, token = [], ""
        while True:
            page = await self.list(page_size=page_size, page_token=token, **fields)
            found += [run.name.removeprefix("runs/") for run in page.runs]
            token = page.next_page_token
            if not token:
                return found


@pytest.fixture
async def runs(registry):
    return Runs(registry, (await registry.sealed_dataset()).name, await registry.model())


@pytest.fixture
async def measured(runs):
    """Runs a to f with last losses 3, 1, NaN, none, 2, 1, in this order."""
    for name, values in {"a": [5, 3], "b": [4, 1], "c": [0.5, NAN], "d": [], "e": [0.1, 2], "f": [1]}.items():
        await runs.measured(name, values)
    return runs


async def test_runs_keep_what_was_written_on_them(runs):
    await runs.make("first")
    await runs.make(
        "second",
        notes="# Why",
        tags=["b", "a"],
        parent="runs/first",
        sweep="sweeps/rates",
        labels={"team": "red"},
    )
    run = await runs.registry.registry.GetRun(registry_service_pb2.GetRunRequest(name="runs/second"))
    assert (run.notes, list(run.tags), run.parent, run.sweep) == (
        "# Why",
        ["a", "b"],
        "runs/first",
        "sweeps/rates",
    )
    assert dict(run.labels) == {"team": "red"}


async def test_bad_fields_of_a_run_are_all_named(runs):
    job = job_service_pb2.Job(
        name="runs/x",
        run=run_pb2.RunSpec(model=runs.model, dataset=runs.dataset),
        notes="x" * 65_537,
        tags=["a", "a", "two words"],
        parent="datasets/x",
        sweep="x",
    )
    request = job_service_pb2.EnqueueJobRequest(job=job)
    failure = await runs.registry.failure_of(runs.registry.jobs.EnqueueJob(request))
    assert list(failure.fields) == ["job.notes", "job.tags[2]", "job.tags", "job.parent", "job.sweep"]


async def test_a_parent_must_exist(runs):
    job = job_service_pb2.Job(run=run_pb2.RunSpec(model=runs.model, dataset=runs.dataset), name="runs/x")
    job.parent = "runs/absent"
    request = job_service_pb2.EnqueueJobRequest(job=job)
    failure = await runs.registry.failure_of(runs.registry.jobs.EnqueueJob(request))
    assert failure.reason == "RESOURCE_NOT_FOUND"


async def test_runs_are_filtered_by_each_field(runs):
    other = (await runs.registry.sealed_dataset(31)).name
    model = await runs.registry.model()
    await runs.make("a", labels={"team": "red", "lang": "en"}, tags=["good"], sweep="sweeps/s")
    await runs.make("b", labels={"team": "blue"}, tags=["good", "slow"], parent="runs/a", description="Größe")
    await runs.make("c", spec={"model": model, "dataset": other})
    assert await runs.ids(labels={"team": "red"}) == ["a"]
    assert await runs.ids(labels={"team": ""}) == ["b", "a"]
    assert await runs.ids(labels={"team": "red", "lang": "de"}) == []
    assert await runs.ids(tags=["good"]) == ["b", "a"]
    assert await runs.ids(tags=["good", "slow"]) == ["b"]
    assert await runs.ids(sweeps=["sweeps/s"]) == ["a"]
    assert await runs.ids(parent="runs/a") == ["b"]
    assert await runs.ids(models=[model]) == ["c"]
    assert await runs.ids(models=["models/tiny"]) == ["c", "b", "a"]
    assert await runs.ids(datasets=[other, runs.dataset]) == ["c", "b", "a"]
    assert await runs.ids(datasets=[other]) == ["c"]
    assert await runs.ids(text="GRÖSSE") == ["b"]
    assert await runs.ids(text="runs/c") == ["c"]
    await runs.registry.claim()
    assert await runs.ids(states=["JOB_STATE_RUNNING"]) == ["a"]
    assert await runs.ids(states=["JOB_STATE_RUNNING", "JOB_STATE_QUEUED"], models=["models/tiny"]) == [
        "c",
        "b",
        "a",
    ]


async def test_runs_are_filtered_by_the_time_of_creation(open_registry, clock):
    registry = await open_registry(clock=clock)
    runs = Runs(registry, (await registry.sealed_dataset()).name, await registry.model())
    for name in ("a", "b", "c"):
        await runs.make(name)
        clock.advance(60)
    second = "2026-01-01T00:01:00Z"
    assert await runs.ids(created_from=second) == ["c", "b"]
    assert await runs.ids(created_before=second) == ["a"]


async def test_runs_are_filtered_by_parameters(runs):
    await runs.make("a", spec={"optimizer": {"learning_rate": 1e-3, "decay": "COSINE"}, "steps": 10})
    await runs.make("b", spec={"optimizer": {"learning_rate": 1e-4}, "remat": True, "lora": {"rank": 8}})
    rate = "optimizer.learning_rate"
    assert await runs.ids(parameters=[{"path": rate, "low": 5e-4}]) == ["a"]
    assert await runs.ids(parameters=[{"path": rate, "low": 1e-4, "high": 1e-4}]) == ["b"]
    assert await runs.ids(parameters=[{"path": rate, "text": "0.001"}]) == ["a"]
    assert await runs.ids(parameters=[{"path": "optimizer.decay", "text": "COSINE"}]) == ["a"]
    assert await runs.ids(parameters=[{"path": "remat", "text": "true"}]) == ["b"]
    assert await runs.ids(parameters=[{"path": "tuning", "text": "lora"}]) == ["b"]
    assert await runs.ids(parameters=[{"path": "lora.rank"}]) == ["b"]
    assert await runs.ids(parameters=[{"path": "remat", "text": "true"}, {"path": rate, "low": 1}]) == []


async def test_runs_are_filtered_by_metrics(measured):
    loss = "validation/loss"
    assert await measured.ids(metrics=[{"metric": loss, "high": 2}]) == ["f", "e", "b"]
    assert await measured.ids(metrics=[{"metric": loss, "low": 2, "high": 3}]) == ["e", "a"]
    minimum = {"metric": loss, "statistic": "METRIC_STATISTIC_MIN", "high": 0.5}
    assert await measured.ids(metrics=[minimum]) == ["e", "c"]
    assert await measured.ids(metrics=[{"metric": "absent", "high": 2}]) == []


@pytest.mark.parametrize("few", [0, 10_000])
@pytest.mark.parametrize("page_size", [1, 2, 50])
async def test_runs_come_in_order_of_a_metric_and_those_without_it_last(
    measured, page_size, few, monkeypatch
):
    monkeypatch.setattr(run_pages, "FEW", few)
    best = {"metric": "validation/loss", "ascending": True}
    worst = {"metric": "validation/loss"}
    lowest = {"metric": "validation/loss", "statistic": "METRIC_STATISTIC_MIN", "ascending": True}
    highest = {"metric": "validation/loss", "statistic": "METRIC_STATISTIC_MAX"}
    assert await measured.ordered(page_size, order=best) == ["b", "f", "e", "a", "d", "c"]
    assert await measured.ordered(page_size, order=worst) == ["a", "e", "f", "b", "d", "c"]
    assert await measured.ordered(page_size, order=lowest) == ["e", "c", "b", "f", "a", "d"]
    assert await measured.ordered(page_size, order=highest) == ["a", "b", "e", "f", "c", "d"]
    some = {"filter": {"text": "runs/"}, "order": best}
    assert await measured.ordered(page_size, **some) == ["b", "f", "e", "a", "d", "c"]
    assert await measured.ordered(page_size, order={"ascending": True}) == ["a", "b", "c", "d", "e", "f"]


async def test_infinite_values_are_ordered_as_numbers(runs):
    for name, value in {"a": math.inf, "b": 1.0, "c": -math.inf, "d": NAN}.items():
        await runs.measured(name, [value])
    order = {"metric": "validation/loss", "ascending": True}
    assert await runs.ordered(1, order=order) == ["c", "b", "a", "d"]


@pytest.mark.parametrize("few", [0, 10_000])
async def test_runs_come_in_order_of_a_parameter(runs, few, monkeypatch):
    monkeypatch.setattr(run_pages, "FEW", few)
    for name, rank in {"a": 8, "b": 64, "c": None, "d": 16}.items():
        await runs.make(name, spec={"lora": {"rank": rank}} if rank else {})
    assert await runs.ordered(1, order={"parameter": "lora.rank"}) == ["b", "d", "a", "c"]
    assert await runs.ordered(3, order={"parameter": "lora.rank", "ascending": True}) == ["a", "d", "b", "c"]


async def test_runs_that_arrive_between_pages_shift_nothing(measured):
    request = {"page_size": 3, "order": {"metric": "validation/loss", "ascending": True}}
    first = await measured.list(**request)
    for name in ("x", "y", "z"):
        await measured.measured(name, [0.0])
    second = await measured.list(**request, page_token=first.next_page_token)
    assert [run.name for run in [*first.runs, *second.runs]] == [f"runs/{name}" for name in "bfeadc"]


async def test_a_token_is_bound_to_the_other_fields(measured):
    page = await measured.list(page_size=1, order={"metric": "validation/loss"})
    for other in (
        {"order": {"metric": "train/loss"}},
        {"order": {"metric": "validation/loss", "ascending": True}},
    ):
        request = ParseDict(other, registry_service_pb2.ListRunsRequest(page_token=page.next_page_token))
        failure = await measured.registry.failure_of(measured.registry.registry.ListRuns(request))
        assert failure.reason == "INVALID_PAGE_TOKEN"


async def test_only_the_wanted_metrics_and_parameters_come_back(runs):
    await runs.make("a", spec={"optimizer": {"learning_rate": 1e-3, "decay": "LINEAR"}, "remat": True})
    job = await runs.registry.claim()
    await runs.send(job, "train/loss", [1.0])
    wanted = ["optimizer.learning_rate", "optimizer.decay", "remat", "absent"]
    (run,) = (await runs.list(metrics=["validation/loss"], parameters=wanted, summary_only=True)).runs
    assert not run.metrics
    assert dict(run.parameters) == {
        "optimizer.learning_rate": 1e-3,
        "optimizer.decay": "LINEAR",
        "remat": True,
    }
    assert not run.HasField("spec")
    (run,) = (await runs.list(metrics=["-"])).runs
    assert not run.metrics
    assert not run.HasField("parameters")
    (run,) = (await runs.list(parameters=["*"])).runs
    assert [summary.metric for summary in run.metrics] == ["train/loss"]
    assert run.parameters["model"] == runs.model
    assert run.spec.optimizer.learning_rate == 1e-3


async def test_the_runs_that_match_are_counted(measured):
    page = await measured.list(page_size=1, with_count=True)
    assert page.total_count == 6
    page = await measured.list(
        page_size=1, with_count=True, filter={"metrics": [{"metric": "validation/loss", "high": 2}]}
    )
    assert page.total_count == 3
    assert (await measured.list()).total_count == 0


async def test_the_values_of_a_running_run_are_ordered_too(runs):
    for name, value in {"a": 2.0, "b": 1.0}.items():
        await runs.make(name)
        await runs.send(await runs.registry.claim(worker=name), "train/loss", [value])
    assert await runs.ordered(order={"metric": "train/loss", "ascending": True}) == ["b", "a"]


async def test_an_ended_run_is_ordered_by_its_last_message(runs):
    await runs.measured("a", [2.0])
    await runs.make("b")
    job = await runs.registry.claim()

    async def messages():
        for offset, value in enumerate([1.0, 5.0, 3.0]):
            point = run_pb2.MetricPoint(metric="validation/loss", step=offset + 1, value=value)
            yield job_service_pb2.StreamMetricsRequest(
                name=job.name, attempt=job.status.attempt, offset=offset, points=[point]
            )

    assert [answer.committed async for answer in runs.registry.jobs.StreamMetrics(messages())][-1] == 3
    error = job_service_pb2.FinishJobRequest(name=job.name, attempt=job.status.attempt)
    error.error.message = "stopped"
    await runs.registry.jobs.FinishJob(error)
    assert await runs.ids(metrics=[{"metric": "validation/loss", "low": 3, "high": 3}]) == ["b"]
    highest = {"metric": "validation/loss", "statistic": "METRIC_STATISTIC_MAX"}
    assert await runs.ordered(order=highest) == ["b", "a"]


async def test_an_archived_run_stays_hidden_while_its_metrics_stream_in(runs):
    await runs.make("a")
    job = await runs.registry.claim()
    await runs.registry.registry.ArchiveRuns(registry_service_pb2.ArchiveRunsRequest(names=[job.name]))
    await runs.send(job, "train/loss", [1.0])
    order = {"metric": "train/loss"}
    assert await runs.ordered(order=order) == []
    assert await runs.ordered(order=order, filter={"visibility": "ARCHIVED"}) == ["a"]


async def test_all_bad_fields_of_a_list_are_named(runs):
    moment = Timestamp(seconds=10**15)
    request = registry_service_pb2.ListRunsRequest(
        dataset="x",
        filter=run_pb2.RunFilter(
            states=[9],
            datasets=["models/x"],
            models=["x"],
            sweeps=["x"],
            parent="x",
            visibility=7,
            text="x" * 201,
            created_from=moment,
            metrics=[run_pb2.MetricRange(statistic=9, low=2, high=1)],
            parameters=[run_pb2.ParameterMatch(path="a", text="b", low=NAN)],
        ),
        order=run_pb2.RunOrder(parameter="a", statistic=run_pb2.METRIC_STATISTIC_MIN),
        metrics=["\0"],
    )
    failure = await runs.registry.failure_of(runs.registry.registry.ListRuns(request))
    assert list(failure.fields) == [
        "dataset",
        "filter.states[0]",
        "filter.datasets[0]",
        "filter.models[0]",
        "filter.sweeps[0]",
        "filter.parent",
        "filter.visibility",
        "filter.text",
        "filter.metrics[0].metric",
        "filter.metrics[0].statistic",
        "filter.metrics[0].low",
        "filter.parameters[0].text",
        "filter.parameters[0].low",
        "filter.created_from",
        "order.statistic",
        "metrics[0]",
    ]


async def test_a_request_id_makes_one_run(runs):
    request = job_service_pb2.EnqueueJobRequest(
        request_id="5b0a9a4e-9f0c-4c3c-8a6e-2f6a3c1d7e11",
        job=job_service_pb2.Job(
            name="runs/", run=run_pb2.RunSpec(model=runs.model, dataset=runs.dataset), tags=["a"]
        ),
    )
    first = await runs.registry.jobs.EnqueueJob(request)
    assert (await runs.registry.jobs.EnqueueJob(request)).name == first.name
    request.job.tags.append("b")
    failure = await runs.registry.failure_of(runs.registry.jobs.EnqueueJob(request))
    assert failure.reason == "REQUEST_ID_REUSED"
    assert len((await runs.list()).runs) == 1


async def test_states_before_filters_still_work(measured):
    response = await measured.list(state=job_pb2.JOB_STATE_FAILED, dataset=measured.dataset, page_size=2)
    assert [run.name for run in response.runs] == ["runs/f", "runs/e"]
