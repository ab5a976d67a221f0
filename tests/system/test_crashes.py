"""A run survives `kill -9` of its child, its server and the registry, and ends as if nothing had happened."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tunix_rt.v1 import artifact_pb2, gateway_service_pb2, registry_service_pb2, run_pb2, trainer_service_pb2
from tunix_rt.v1.job_pb2 import JobState

STEPS = 240
LEASE_SECONDS = 3.0  # of the services in conftest.py
TERMINAL = (JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED)


def spec(model: str, dataset: str) -> run_pb2.RunSpec:
    return run_pb2.RunSpec(
        model=model,
        dataset=dataset,
        steps=STEPS,
        batch_size=2,
        max_length=256,
        optimizer=run_pb2.OptimizerSpec(learning_rate=1e-3, warmup_steps=5),
        checkpoint_every=20,
        validate_every=60,
        seed=3,
    )


def create(system, run_id: str, model: str, dataset: str) -> str:
    request = trainer_service_pb2.CreateRunRequest(run_id=run_id, run=run_pb2.Run(spec=spec(model, dataset)))
    return str(system.trainer.CreateRun(request, timeout=30).name)


def wait_for(check: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def points_of(system, run: str) -> list[run_pb2.MetricPoint]:
    points: list[run_pb2.MetricPoint] = []
    token = ""
    while True:
        request = registry_service_pb2.ListMetricsRequest(run=run, resume_token=token, page_size=10_000)
        page = system.registry.ListMetrics(request, timeout=30, wait_for_ready=True)
        if not page.points:
            return points
        points.extend(page.points)
        token = page.resume_token


def reaches(system, run: str, step: int, attempt: int) -> Callable[[], bool]:
    def check() -> bool:
        points = points_of(system, run)
        return any(point.step >= step and point.attempt >= attempt for point in points)

    return check


def state_of(system, run: str) -> run_pb2.Run:
    return system.registry.GetRun(
        registry_service_pb2.GetRunRequest(name=run), timeout=30, wait_for_ready=True
    )


def finish(system, run: str) -> run_pb2.Run:
    wait_for(lambda: state_of(system, run).status.state in TERMINAL, 120, f"the end of {run}")
    return state_of(system, run)


def weights(system, run: run_pb2.Run) -> artifact_pb2.File:
    request = registry_service_pb2.GetArtifactRequest(name=run.model_artifact)
    (file,) = [f for f in system.registry.GetArtifact(request).files if f.path == "model.safetensors"]
    return file


@pytest.fixture(scope="module")
def watched(system, tiny_model: str, dataset: str) -> tuple[str, list[tuple[str, int]]]:
    """A run left alone, and the points that a watch of it showed until it was cut, and then until the end."""
    run = create(system, "undisturbed", tiny_model, dataset)
    seen: list[tuple[str, int]] = []
    token = ""
    first = system.gateway.WatchRun(gateway_service_pb2.WatchRunRequest(name=run), timeout=60)
    for event in first:
        token = event.resume_token
        seen += [(p.metric, p.step) for p in event.points.points]
        if len(seen) > 20:
            first.cancel()
            break
    request = gateway_service_pb2.WatchRunRequest(name=run, resume_token=token)
    last = None
    for event in system.gateway.WatchRun(request, timeout=60):
        seen += [(p.metric, p.step) for p in event.points.points]
        last = event
    assert last is not None
    assert last.run.status.state == JobState.JOB_STATE_SUCCEEDED
    return run, seen


@pytest.mark.timeout(240)
def test_a_run_that_was_killed_in_every_way_equals_one_left_alone(
    system, tiny_model: str, dataset: str, watched
) -> None:
    disturbed = create(system, "disturbed", tiny_model, dataset)
    trainer, registry = system.services["trainer"], system.services["registry"]

    wait_for(reaches(system, disturbed, 30, 1), 60, "step 30 of the first attempt")
    trainer.descendant("tunix_rt.trainer.job").kill()

    wait_for(reaches(system, disturbed, 70, 2), 60, "step 70 of the second attempt")
    child = trainer.descendant("tunix_rt.trainer.job")
    trainer.kill()
    child.wait(10)  # raises if the child outlives its server
    trainer.environment["TUNIX_RT_WORK"] = str(system.folder / "another host")  # with nothing of the run
    trainer.start()

    wait_for(reaches(system, disturbed, 110, 3), 60, "step 110 of the third attempt")
    registry.kill()
    down = time.monotonic()
    wait_for(lambda: ended_on(trainer), 60, "the end of training, which needs no registry")
    wait_for(lambda: time.monotonic() > down + 1.2 * LEASE_SECONDS, 10, "the end of the lease")
    registry.start()
    registry.wait_serving()

    run = finish(system, disturbed)
    assert run.status.state == JobState.JOB_STATE_SUCCEEDED, run.status.error
    assert run.status.attempt == 3

    alone = state_of(system, watched[0])
    assert alone.status.state == JobState.JOB_STATE_SUCCEEDED
    assert alone.status.attempt == 1
    assert weights(system, run).sha256 == weights(system, alone).sha256

    losses = curve(system, disturbed)
    assert [int(step) for step in losses.steps] == list(range(1, STEPS + 1))
    assert list(losses.values) == list(curve(system, alone.name).values)

    stored = [(p.attempt, p.metric, p.step) for p in points_of(system, disturbed)]
    assert len(stored) == len(set(stored)), "a point was stored twice"


def ended_on(trainer) -> bool:
    """Whether the child of the run that the trainer works on has ended."""
    return any(Path(trainer.environment["TUNIX_RT_WORK"]).rglob("outcome.json"))


def curve(system, run: str) -> registry_service_pb2.Curve:
    request = registry_service_pb2.GetCurvesRequest(runs=[run], metrics=["train/loss"], max_points=10_000)
    (found,) = system.registry.GetCurves(request, timeout=30).curves
    return found


def test_a_watch_that_is_resumed_shows_every_point_once(system, watched) -> None:
    _, seen = watched
    assert len(seen) == len(set(seen))
    assert [step for metric, step in seen if metric == "train/loss"] == list(range(1, STEPS + 1))


@pytest.mark.timeout(120)
def test_a_run_is_cancelled_while_it_waits_and_while_it_trains(system, tiny_model: str, dataset: str) -> None:
    running = create(system, "running", tiny_model, dataset)
    waiting = create(system, "waiting", tiny_model, dataset)
    wait_for(reaches(system, running, 5, 1), 60, "the first steps")
    cancelled = system.trainer.CancelRun(trainer_service_pb2.CancelRunRequest(name=waiting), timeout=30)
    assert cancelled.status.state == JobState.JOB_STATE_CANCELLED
    system.trainer.CancelRun(trainer_service_pb2.CancelRunRequest(name=running), timeout=30)
    assert finish(system, running).status.state == JobState.JOB_STATE_CANCELLED
    listed = system.registry.ListRuns(registry_service_pb2.ListRunsRequest(), timeout=30)
    assert {running, waiting} <= {run.name for run in listed.runs}
