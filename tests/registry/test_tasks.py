"""Task versions: immutable evaluation specs, and what evaluations take from them."""

from __future__ import annotations

import uuid

import grpc
import pytest

from tunix_rt.v1 import evaluation_pb2, job_service_pb2, registry_service_pb2, run_pb2
from tunix_rt.v1.evaluation_pb2 import Decoding, EvaluationSpec, FewShot

COMPLETE = EvaluationSpec(
    split="test",
    decoding=Decoding(max_tokens=64, top_p=1, repetition_penalty=1),
    format="tags",
    scorer="exact-answer@2",
    samples=1,
    method="generation",
    weight_type="float32",
)


async def create(registry, spec, parent="tasks/sums", **fields):
    request = registry_service_pb2.CreateTaskVersionRequest(parent=parent, **fields)
    request.task_version.spec.CopyFrom(spec)
    return await registry.registry.CreateTaskVersion(request)


def short(dataset, **changes):
    fields = {"dataset": dataset, "format": "tags", "decoding": Decoding(max_tokens=64), **changes}
    return EvaluationSpec(**fields)


async def evaluate(registry, **spec):
    job = job_service_pb2.Job(name="evaluations/", evaluation=EvaluationSpec(**spec))
    return await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))


async def listed(registry, task):
    request = registry_service_pb2.ListEvaluationsRequest(task=task)
    return [each.name for each in (await registry.registry.ListEvaluations(request)).evaluations]


async def test_a_version_holds_the_complete_spec_and_is_numbered(registry):
    dataset = (await registry.sealed_dataset()).name
    first = await create(registry, short(dataset))
    second = await create(registry, short(dataset, split="train"))
    assert [first.name, second.name] == ["tasks/sums/versions/v1", "tasks/sums/versions/v2"]
    expected = EvaluationSpec(dataset=dataset)
    expected.MergeFrom(COMPLETE)
    assert first.spec == expected
    request = registry_service_pb2.GetTaskVersionRequest(name=first.name)
    assert await registry.registry.GetTaskVersion(request) == first


async def test_the_dataset_counts_by_its_content_in_the_digest(registry):
    one, copy = [(await registry.sealed_dataset(30)).name for _ in range(2)]
    other = (await registry.sealed_dataset(31)).name
    digests = [(await create(registry, short(dataset))).digest for dataset in (one, copy, other)]
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 64


async def test_a_version_never_changes(registry):
    dataset = (await registry.sealed_dataset()).name
    await create(registry, short(dataset), version_id="final")
    failure = await registry.failure_of(create(registry, short(dataset, samples=1), version_id="final"))
    assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RESOURCE_EXISTS")


async def test_a_repeated_request_returns_what_the_first_made(registry):
    dataset, request_id = (await registry.sealed_dataset()).name, str(uuid.uuid4())
    first = await create(registry, short(dataset), request_id=request_id)
    assert await create(registry, short(dataset), request_id=request_id) == first
    changed = create(registry, short(dataset, format=""), request_id=request_id)
    assert (await registry.failure_of(changed)).reason == "REQUEST_ID_REUSED"


async def test_all_bad_fields_are_named_together(registry):
    request = registry_service_pb2.CreateTaskVersionRequest(
        parent="models/x", version_id="No", request_id="1"
    )
    version = request.task_version
    version.name, version.digest = "tasks/x/versions/v1", "0"
    version.create_time.GetCurrentTime()
    version.spec.CopyFrom(
        EvaluationSpec(
            subject="runs/r",
            dataset="golden",
            task="tasks/y/versions/v1",
            allow_contamination=True,
            predictions="0" * 64,
            format="xml",
            samples=3,
            decoding=Decoding(top_k=5),
            prompt_template="Q: {q}",
        )
    )
    failure = await registry.failure_of(registry.registry.CreateTaskVersion(request))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(failure.fields) == [
        "parent",
        "request_id",
        "task_version.create_time",
        "task_version.digest",
        "task_version.name",
        "task_version.spec.allow_contamination",
        "task_version.spec.dataset",
        "task_version.spec.decoding.top_k",
        "task_version.spec.format",
        "task_version.spec.predictions",
        "task_version.spec.prompt_template",
        "task_version.spec.samples",
        "task_version.spec.subject",
        "task_version.spec.task",
        "version_id",
    ]


async def test_an_open_dataset_makes_no_task(registry):
    open_one = await registry.registry.CreateDataset(registry_service_pb2.CreateDatasetRequest())
    failure = await registry.failure_of(create(registry, short(open_one.name)))
    assert failure.reason == "DATASET_NOT_SEALED"


async def test_an_unknown_split_makes_no_task(registry):
    dataset = (await registry.sealed_dataset()).name
    failure = await registry.failure_of(create(registry, short(dataset, split="other")))
    assert list(failure.fields) == ["task_version.spec.split"]


async def test_lists_are_paged_newest_first_and_by_task(registry):
    dataset = (await registry.sealed_dataset()).name
    for parent in ("tasks/a", "tasks/b", "tasks/a"):
        await create(registry, short(dataset), parent=parent)
    request = registry_service_pb2.ListTaskVersionsRequest(page_size=2)
    first = await registry.registry.ListTaskVersions(request)
    request.page_token = first.next_page_token
    rest = await registry.registry.ListTaskVersions(request)
    names = [each.name for page in (first, rest) for each in page.task_versions]
    assert names == ["tasks/a/versions/v2", "tasks/b/versions/v1", "tasks/a/versions/v1"]
    of_b = registry_service_pb2.ListTaskVersionsRequest(parent="tasks/b")
    found = (await registry.registry.ListTaskVersions(of_b)).task_versions
    assert [each.name for each in found] == ["tasks/b/versions/v1"]


async def test_an_unknown_task_is_not_found(registry):
    request = registry_service_pb2.GetTaskVersionRequest(name="tasks/none/versions/v1")
    assert (await registry.failure_of(registry.registry.GetTaskVersion(request))).code == (
        grpc.StatusCode.NOT_FOUND
    )


async def test_an_evaluation_is_stored_with_the_complete_spec_of_its_task(registry):
    dataset, model = (await registry.sealed_dataset()).name, await registry.model()
    task = await create(registry, short(dataset, limit=3))
    made = await evaluate(registry, subject=model, task=task.name, allow_contamination=True)
    expected = EvaluationSpec(subject=model, task=task.name, allow_contamination=True)
    expected.MergeFrom(task.spec)
    assert made.evaluation == expected


async def test_every_field_that_says_something_else_than_the_task_is_named(registry):
    dataset, model = (await registry.sealed_dataset()).name, await registry.model()
    task = await create(registry, short(dataset))
    given = {
        "subject": model,
        "task": task.name,
        "format": "tags",  # as the task says
        "limit": 5,
        "system_prompt": "Be brief.",
        "few_shot": FewShot(count=1),
        "decoding": Decoding(max_tokens=65, stop=["\n"], top_p=1),
    }
    failure = await registry.failure_of(evaluate(registry, **given))
    task_name = "`tasks/sums/versions/v1`"
    assert failure.fields == {
        "job.evaluation.limit": f"is 5, but {task_name} says 0. Leave it out.",
        "job.evaluation.system_prompt": f"is `Be brief.`, but {task_name} says nothing. Leave it out.",
        "job.evaluation.few_shot": f"is set, but {task_name} has none. Leave it out.",
        "job.evaluation.decoding.max_tokens": f"is 65, but {task_name} says 64. Leave it out.",
        "job.evaluation.decoding.stop": f"is `\n`, but {task_name} says nothing. Leave it out.",
    }


async def test_evaluations_after_a_run_are_those_of_their_task(registry):
    dataset, model = (await registry.sealed_dataset()).name, await registry.model()
    task = await create(registry, short(dataset))
    run = await registry.running(
        dataset=dataset,
        model=model,
        evaluate_after=[evaluation_pb2.EvaluationSpec(task=task.name)],
    )
    await registry.succeed_run(run)
    [name] = await listed(registry, task.name)
    found = await registry.registry.GetEvaluation(registry_service_pb2.GetEvaluationRequest(name=name))
    assert (found.spec.subject, found.spec.task, found.spec.format) == (run.name, task.name, "tags")


async def test_what_differs_from_tasks_after_a_run_is_named_together(registry):
    dataset, model = (await registry.sealed_dataset()).name, await registry.model()
    task = await create(registry, short(dataset))
    after = [EvaluationSpec(task=task.name, limit=1), EvaluationSpec(task=task.name, samples=2)]
    spec = run_pb2.RunSpec(dataset=dataset, model=model, evaluate_after=after)
    job = job_service_pb2.Job(name="runs/", run=spec)
    failure = await registry.failure_of(registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job)))
    assert sorted(failure.fields) == [
        "job.run.evaluate_after[0].limit",
        "job.run.evaluate_after[1].samples",
    ]


async def test_equal_specs_rank_together_however_they_were_written(registry):
    dataset, model = (await registry.sealed_dataset()).name, await registry.model()
    task = await create(registry, short(dataset))
    by_task = await evaluate(registry, subject=model, task=task.name)
    await registry.succeed_evaluation(by_task.name, 10, 20)
    written = await evaluate(registry, subject=model, dataset=dataset, **spelled())
    await registry.succeed_evaluation(written.name, 11, 20)
    other = await evaluate(registry, subject=model, dataset=dataset)
    await registry.succeed_evaluation(other.name, 12, 20)

    request = registry_service_pb2.GetLeaderboardRequest(dataset=dataset)
    boards = (await registry.registry.GetLeaderboard(request)).boards
    assert [(list(board.tasks), board.entries[0].evaluation_count) for board in boards] == [
        ([task.name], 2),
        ([], 1),
    ]
    of_task = registry_service_pb2.GetLeaderboardRequest(task=task.name)
    found = await registry.registry.GetLeaderboard(of_task)
    assert found == registry_service_pb2.Leaderboard(dataset=dataset, boards=boards[:1])
    assert await listed(registry, task.name) == [written.name, by_task.name]


def spelled():
    return {"format": "tags", "split": "test", "samples": 1, "decoding": Decoding(max_tokens=64, top_p=1)}


@pytest.mark.parametrize("field", ["dataset", "split"])
async def test_a_leaderboard_by_task_takes_nothing_that_the_task_says(registry, field):
    dataset = (await registry.sealed_dataset()).name
    task = await create(registry, short(dataset))
    value = {"dataset": dataset, "split": "test"}[field]
    request = registry_service_pb2.GetLeaderboardRequest(task=task.name, **{field: value})
    failure = await registry.failure_of(registry.registry.GetLeaderboard(request))
    assert list(failure.fields) == [field]


async def test_lists_and_leaderboards_know_their_task(registry):
    name = "tasks/none/versions/v1"
    for call in (
        registry.registry.GetLeaderboard(registry_service_pb2.GetLeaderboardRequest(task=name)),
        registry.registry.ListEvaluations(registry_service_pb2.ListEvaluationsRequest(task=name)),
    ):
        assert (await registry.failure_of(call)).code == grpc.StatusCode.NOT_FOUND
