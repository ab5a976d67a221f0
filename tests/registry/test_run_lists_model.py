"""Random filters and orders give what a slow, obvious search over the same runs gives."""

from __future__ import annotations

import math
import random

import pytest

from tunix_rt.registry import run_pages
from tunix_rt.v1 import job_pb2, job_service_pb2, registry_service_pb2, run_pb2

RUNS = 30
REQUESTS = 60
LOSS = "validation/loss"


async def make_runs(registry, dice):
    """Runs with random labels, tags, ranks, losses and states, oldest first, as the registry shows them."""
    dataset, model = (await registry.sealed_dataset()).name, await registry.model()
    for number in range(RUNS):
        spec = run_pb2.RunSpec(model=model, dataset=dataset, seed=dice.randrange(3))
        if dice.random() < 0.6:
            spec.lora.rank = dice.choice([4, 8, 16])
        job = job_service_pb2.Job(
            name=f"runs/r{number}",
            run=spec,
            labels={"team": dice.choice(["red", "blue"])} if dice.random() < 0.7 else {},
            tags=dice.sample(["x", "y", "z"], dice.randrange(3)),
        )
        await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
        claimed = await registry.claim(worker=f"worker-{number}")
        losses = [dice.choice([0.5, 1.0, 2.0, math.inf, math.nan]) for _ in range(dice.randrange(4))]
        points = [run_pb2.MetricPoint(metric=LOSS, step=s, value=v) for s, v in enumerate(losses, start=1)]

        async def messages(claimed=claimed, points=points):
            yield job_service_pb2.StreamMetricsRequest(name=claimed.name, attempt=1, points=points)

        assert [answer.committed async for answer in registry.jobs.StreamMetrics(messages())][-1] == len(
            losses
        )
        if dice.random() < 0.5:
            error = job_service_pb2.FinishJobRequest(name=claimed.name, attempt=1)
            error.error.message = "stopped"
            await registry.jobs.FinishJob(error)
    request = registry_service_pb2.ListRunsRequest(order=run_pb2.RunOrder(ascending=True))
    return list((await registry.registry.ListRuns(request)).runs)


def random_request(dice):
    wanted, order = run_pb2.RunFilter(), run_pb2.RunOrder(ascending=dice.random() < 0.5)
    if dice.random() < 0.3:
        wanted.states.extend(dice.sample([job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_FAILED], 1))
    if dice.random() < 0.3:
        wanted.labels["team"] = dice.choice(["red", ""])
    if dice.random() < 0.2:
        wanted.tags.append(dice.choice(["x", "y"]))
    if dice.random() < 0.3:
        wanted.metrics.add(metric=LOSS, statistic=dice.randrange(4), low=dice.choice([0.5, 1]), high=2)
    if dice.random() < 0.3:
        wanted.parameters.add(path="lora.rank", low=8)
    if dice.random() < 0.2:
        wanted.parameters.add(path="seed", text="1")
    key = dice.choice(["metric", "parameter", ""])
    if key == "metric":
        order.metric, order.statistic = LOSS, dice.randrange(4)
    elif key:
        order.parameter = dice.choice(["lora.rank", "seed"])
    return registry_service_pb2.ListRunsRequest(filter=wanted, order=order, page_size=dice.choice([1, 4, 50]))


def value_of(run, metric, statistic):
    """The value of a metric that orders and ranges read; None where it is missing or NaN."""
    for summary in run.metrics:
        if summary.metric == metric:
            value = [summary.last, summary.last, summary.min, summary.max][statistic]
            return None if math.isnan(value) else value
    return None


def parameter_of(run, path):
    if path == "seed":
        return run.spec.seed
    return run.spec.lora.rank if run.spec.HasField("lora") else None


def matches(run, wanted):
    def within(value, limits):
        low = limits.low if limits.HasField("low") else -math.inf
        return value is not None and low <= value <= (limits.high if limits.HasField("high") else math.inf)

    return (
        (not wanted.states or run.status.state in wanted.states)
        and all(key in run.labels and value in ("", run.labels[key]) for key, value in wanted.labels.items())
        and set(wanted.tags) <= set(run.tags)
        and all(within(value_of(run, each.metric, each.statistic), each) for each in wanted.metrics)
        and all(
            str(parameter_of(run, each.path)) == each.text
            if each.HasField("text")
            else within(parameter_of(run, each.path), each)
            for each in wanted.parameters
        )
    )


def expected(runs, request):
    """The names, from runs given oldest first."""
    order = request.order
    found = [(number, run) for number, run in enumerate(runs) if matches(run, request.filter)]
    key = order.WhichOneof("key")
    if not key:
        return [run.name for _, run in sorted(found, reverse=not order.ascending, key=lambda pair: pair[0])]

    def value(run):
        if key == "metric":
            return value_of(run, order.metric, order.statistic)
        return parameter_of(run, order.parameter)

    known = [(value(run), number, run.name) for number, run in found if value(run) is not None]
    without = [run.name for _, run in reversed(found) if value(run) is None]
    return [name for _, _, name in sorted(known, reverse=not order.ascending)] + without


@pytest.mark.parametrize("few", [0, 10, 10_000])
async def test_lists_are_those_of_an_obvious_search(registry, monkeypatch, few):
    monkeypatch.setattr(run_pages, "FEW", few)
    dice = random.Random(few)
    runs = await make_runs(registry, dice)
    assert len(runs) == RUNS
    for _ in range(REQUESTS):
        request = random_request(dice)
        wanted, found = expected(runs, request), []
        request.with_count = True
        while True:
            page = await registry.registry.ListRuns(request)
            found += [run.name for run in page.runs]
            assert page.total_count == len(wanted)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        request.page_token = ""
        assert found == wanted, request
