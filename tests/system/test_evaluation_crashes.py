"""An evaluation survives `kill -9` of its engine, its server and the registry, and ends as if undisturbed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import pytest

from tunix_rt.v1 import evaluation_pb2, evaluator_service_pb2, registry_service_pb2
from tunix_rt.v1.job_pb2 import JobState

ITEMS, SAMPLES = 8, 64
OUTPUTS = ITEMS * SAMPLES
TERMINAL = (JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED)


def create(system, name: str, model: str, dataset: str, *, seed: int) -> str:
    spec = evaluation_pb2.EvaluationSpec(
        subject=model,
        dataset=dataset,
        limit=ITEMS,
        samples=SAMPLES,
        decoding=evaluation_pb2.Decoding(max_tokens=160, temperature=1.0, seed=seed),
    )
    request = evaluator_service_pb2.CreateEvaluationRequest(
        evaluation_id=name, evaluation=evaluation_pb2.Evaluation(spec=spec)
    )
    return str(system.evaluator.CreateEvaluation(request, timeout=30, wait_for_ready=True).name)


def wait_for(check: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def state_of(system, name: str) -> evaluation_pb2.Evaluation:
    request = registry_service_pb2.GetEvaluationRequest(name=name)
    return system.registry.GetEvaluation(request, timeout=30, wait_for_ready=True)


def stored(system, name: str) -> list[evaluation_pb2.ItemScore]:
    request = registry_service_pb2.ListItemScoresRequest(evaluation=name, page_size=1000)
    return list(system.registry.ListItemScores(request, timeout=30, wait_for_ready=True).item_scores)


def wait_for_stored(system, name: str, count: int, attempt: int = 1) -> list[evaluation_pb2.ItemScore]:
    """The first outputs that are stored once this attempt works: so many at least, and not all."""
    wait_for(lambda: state_of(system, name).status.attempt == attempt, 60, f"attempt {attempt} of {name}")
    wait_for(lambda: len(stored(system, name)) >= count, 90, f"{count} outputs of {name}")
    found = stored(system, name)
    assert len(found) < OUTPUTS, "it has ended before it could be disturbed"
    return found


def finish(system, name: str) -> evaluation_pb2.Evaluation:
    wait_for(lambda: state_of(system, name).status.state in TERMINAL, 120, f"the end of {name}")
    return state_of(system, name)


def facts(system, name: str) -> list[evaluation_pb2.ItemScore]:
    """The stored outputs without what the clock and the cache decide."""
    items = stored(system, name)
    for item in items:
        item.ClearField("latency")
        item.ClearField("cached")
    return items


def result_facts(evaluation: evaluation_pb2.Evaluation) -> evaluation_pb2.EvaluationResult:
    result = evaluation_pb2.EvaluationResult()
    result.CopyFrom(evaluation.result)
    for rate in ("tokens_per_second", "items_per_second", "cached_count"):
        result.ClearField(rate)
    return result


def predictions(system, name: str) -> str:
    request = registry_service_pb2.ListArtifactsRequest(owner=name)
    digests = {
        file.sha256
        for artifact in system.registry.ListArtifacts(request, timeout=30).artifacts
        for file in artifact.files
    }
    assert len(digests) == 1
    return digests.pop()


@pytest.mark.timeout(300)
def test_an_evaluation_that_was_killed_in_every_way_equals_one_left_alone(
    system, tiny_model: str, dataset: str
) -> None:
    evaluator, registry = system.services["evaluator"], system.services["registry"]
    disturbed = create(system, "disturbed", tiny_model, dataset, seed=1)

    first = wait_for_stored(system, disturbed, 20)
    evaluator.descendant("tunix_rt.evaluator.engine").kill()

    second = wait_for_stored(system, disturbed, len(first) + 30, attempt=2)
    engine = evaluator.descendant("tunix_rt.evaluator.engine")
    evaluator.kill()
    engine.wait(10)  # raises if the engine outlives its server
    evaluator.start()

    third = wait_for_stored(system, disturbed, len(second) + 30, attempt=3)
    registry.kill()
    time.sleep(5)  # the outage itself
    registry.start()
    registry.wait_serving()

    ended = finish(system, disturbed)
    assert ended.status.state == JobState.JOB_STATE_SUCCEEDED, ended.status.error
    assert ended.status.attempt == 3
    items = stored(system, disturbed)
    assert len({(item.position, item.sample) for item in items}) == len(items) == OUTPUTS
    for before in (first, second, third):  # with their latencies: none was stored again
        places = {(item.position, item.sample) for item in before}
        assert [item for item in items if (item.position, item.sample) in places] == before

    assert evaluator.stop() == 0
    shutil.rmtree(system.folder / "evaluator" / "outputs")
    evaluator.start()
    evaluator.wait_serving()
    alone = finish(system, create(system, "undisturbed", tiny_model, dataset, seed=1))
    assert alone.status.state == JobState.JOB_STATE_SUCCEEDED, alone.status.error
    assert (alone.status.attempt, alone.result.cached_count) == (1, 0)
    assert facts(system, disturbed) == facts(system, alone.name)
    assert result_facts(ended) == result_facts(alone)
    assert predictions(system, disturbed) == predictions(system, alone.name)


@pytest.mark.timeout(180)
def test_a_cancelled_evaluation_keeps_its_outputs_and_frees_the_engine(
    system, tiny_model: str, dataset: str
) -> None:
    name = create(system, "cancelled", tiny_model, dataset, seed=2)
    before = wait_for_stored(system, name, 20)
    request = evaluator_service_pb2.CancelEvaluationRequest(name=name)
    system.evaluator.CancelEvaluation(request, timeout=30)
    assert finish(system, name).status.state == JobState.JOB_STATE_CANCELLED
    kept = {item.SerializeToString(deterministic=True) for item in stored(system, name)}
    assert {item.SerializeToString(deterministic=True) for item in before} <= kept
    again = finish(system, create(system, "after-cancellation", tiny_model, dataset, seed=2))
    assert again.status.state == JobState.JOB_STATE_SUCCEEDED
    assert again.result.cached_count >= len(before)
