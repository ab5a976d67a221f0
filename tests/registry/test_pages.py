"""Every list is paged by key: each row once, whatever arrives meanwhile."""

from __future__ import annotations

import pytest

from tunix_rt.v1 import (
    dataset_pb2,
    evaluation_pb2,
    job_pb2,
    job_service_pb2,
    registry_service_pb2,
)


async def all_pages(method, request, field, page_size):
    """The names on each page; follows the tokens to the end."""
    pages = []
    request.page_size = page_size
    while True:
        response = await method(request)
        pages.append([each.name for each in getattr(response, field)])
        if not response.next_page_token:
            return pages
        request.page_token = response.next_page_token


async def test_datasets_are_listed_newest_first_and_once(registry):
    made = []
    for _ in range(5):
        made.append((await registry.registry.CreateDataset(registry_service_pb2.CreateDatasetRequest())).name)
    pages = await all_pages(
        registry.registry.ListDatasets, registry_service_pb2.ListDatasetsRequest(), "datasets", 2
    )
    assert pages == [[made[4], made[3]], [made[2], made[1]], [made[0]]]


async def test_a_page_of_large_rows_is_bounded_in_bytes(registry):
    request = registry_service_pb2.CreateDatasetRequest(
        dataset=dataset_pb2.Dataset(description="x" * 250_000)
    )
    for _ in range(20):
        await registry.registry.CreateDataset(request)
    pages = await all_pages(
        registry.registry.ListDatasets, registry_service_pb2.ListDatasetsRequest(), "datasets", 1000
    )
    assert [len(page) for page in pages] == [17, 3]
    request.dataset.description = "x" * 300_000
    failure = await registry.failure_of(registry.registry.CreateDataset(request))
    assert list(failure.fields) == ["dataset"]


async def test_rows_that_arrive_meanwhile_shift_nothing(registry):
    for _ in range(4):
        await registry.registry.CreateDataset(registry_service_pb2.CreateDatasetRequest())
    request = registry_service_pb2.ListDatasetsRequest(page_size=2)
    first = await registry.registry.ListDatasets(request)
    await registry.registry.CreateDataset(registry_service_pb2.CreateDatasetRequest())
    request.page_token = first.next_page_token
    second = await registry.registry.ListDatasets(request)
    names = [dataset.name for dataset in [*first.datasets, *second.datasets]]
    assert len(set(names)) == 4
    assert not second.next_page_token


async def test_runs_are_filtered_by_state_and_dataset_and_paged(registry):
    dataset = (await registry.sealed_dataset()).name
    model = await registry.model()
    names = [(await registry.enqueue(dataset=dataset, model=model)).name for _ in range(5)]
    await registry.enqueue(model=model)
    claimed = (await registry.claim()).name
    assert claimed == names[0]
    request = registry_service_pb2.ListRunsRequest(dataset=dataset, state=job_pb2.JOB_STATE_QUEUED)
    pages = await all_pages(registry.registry.ListRuns, request, "runs", 3)
    assert pages == [[names[4], names[3], names[2]], [names[1]]]
    everything = registry_service_pb2.ListRunsRequest()
    pages = await all_pages(registry.registry.ListRuns, everything, "runs", 4)
    assert [len(page) for page in pages] == [4, 2]


async def test_evaluations_are_filtered_by_subject(registry):
    dataset = (await registry.sealed_dataset()).name
    models = [await registry.model(), await registry.model()]
    made = {}
    for model in models:
        job = job_service_pb2.Job(
            name="evaluations/", evaluation=evaluation_pb2.EvaluationSpec(subject=model, dataset=dataset)
        )
        made[model] = (await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))).name
    request = registry_service_pb2.ListEvaluationsRequest(subject=models[1], dataset=dataset)
    pages = await all_pages(registry.registry.ListEvaluations, request, "evaluations", 0)
    assert pages == [[made[models[1]]]]


async def test_item_scores_are_listed_by_position_and_replaced(registry):
    job = job_service_pb2.Job(
        name="evaluations/",
        evaluation=evaluation_pb2.EvaluationSpec(
            subject=await registry.model(), dataset=(await registry.sealed_dataset()).name
        ),
    )
    await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
    name = (await registry.claim("evaluation")).name
    items = [
        evaluation_pb2.ItemScore(
            trace_id=f"t{i}", position=i, output="NUL \0", outcome=evaluation_pb2.ItemScore.WRONG
        )
        for i in range(7)
    ]
    record = job_service_pb2.RecordItemScoresRequest(name=name, attempt=1, item_scores=reversed(items))
    assert (await registry.jobs.RecordItemScores(record)).stored_count == 7
    items[3].outcome, items[3].score = evaluation_pb2.ItemScore.CORRECT, 1.0
    record = job_service_pb2.RecordItemScoresRequest(name=name, attempt=1, item_scores=[items[3]])
    assert (await registry.jobs.RecordItemScores(record)).stored_count == 7

    listed, request = [], registry_service_pb2.ListItemScoresRequest(evaluation=name, page_size=3)
    while True:
        page = await registry.registry.ListItemScores(request)
        listed += page.item_scores
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert listed == items


async def test_the_samples_of_an_item_are_kept_apart(registry):
    job = job_service_pb2.Job(
        name="evaluations/",
        evaluation=evaluation_pb2.EvaluationSpec(
            subject=await registry.model(), dataset=(await registry.sealed_dataset()).name, samples=3
        ),
    )
    await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
    name = (await registry.claim("evaluation")).name
    items = [
        evaluation_pb2.ItemScore(
            trace_id=f"t{i}", position=i, sample=sample, outcome=evaluation_pb2.ItemScore.WRONG
        )
        for i in range(4)
        for sample in range(3)
    ]

    async def finish(count):
        score = evaluation_pb2.Score(mean=0, low=0, high=0.5, count=count)
        result = evaluation_pb2.EvaluationResult(score=score)
        request = job_service_pb2.FinishJobRequest(name=name, attempt=1, evaluation=result)
        return await registry.jobs.FinishJob(request)

    most = job_service_pb2.RecordItemScoresRequest(name=name, attempt=1, item_scores=items[:0:-1])
    assert (await registry.jobs.RecordItemScores(most)).stored_count == 11
    assert list((await registry.failure_of(finish(4))).fields) == ["evaluation.score.count"]
    rest = job_service_pb2.RecordItemScoresRequest(name=name, attempt=1, item_scores=items[:2])
    assert (await registry.jobs.RecordItemScores(rest)).stored_count == 12
    assert list((await registry.failure_of(finish(12))).fields) == ["evaluation.score.count"]
    await finish(4)

    listed, request = [], registry_service_pb2.ListItemScoresRequest(evaluation=name, page_size=5)
    while True:
        page = await registry.registry.ListItemScores(request)
        listed += page.item_scores
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert listed == items


async def test_bad_item_scores_are_refused_together(registry):
    items = [
        evaluation_pb2.ItemScore(trace_id="a", outcome=evaluation_pb2.ItemScore.CORRECT, score=2),
        evaluation_pb2.ItemScore(trace_id="a", position=-1),
        evaluation_pb2.ItemScore(
            trace_id="b",
            sample=-1,
            outcome=evaluation_pb2.ItemScore.WRONG,
            strict_score=1.5,
            step_count=1,
            true_step_count=2,
        ),
    ]
    record = job_service_pb2.RecordItemScoresRequest(name="evaluations/e", attempt=1, item_scores=items)
    failure = await registry.failure_of(registry.jobs.RecordItemScores(record))
    assert set(failure.fields) == {
        "item_scores[0].score",
        "item_scores[1].trace_id",
        "item_scores[1].position",
        "item_scores[1].outcome",
        "item_scores[2].sample",
        "item_scores[2].strict_score",
        "item_scores[2].true_step_count",
    }


@pytest.mark.parametrize("token", ["nonsense", "WzFd", "é"])
async def test_a_foreign_token_is_refused(registry, token):
    request = registry_service_pb2.ListDatasetsRequest(page_token=token)
    failure = await registry.failure_of(registry.registry.ListDatasets(request))
    assert failure.reason == "INVALID_PAGE_TOKEN"


async def test_a_token_of_other_filters_is_refused(registry):
    for _ in range(2):
        await registry.enqueue()
    first = await registry.registry.ListRuns(registry_service_pb2.ListRunsRequest(page_size=1))
    request = registry_service_pb2.ListRunsRequest(
        page_size=1, page_token=first.next_page_token, state=job_pb2.JOB_STATE_QUEUED
    )
    failure = await registry.failure_of(registry.registry.ListRuns(request))
    assert failure.reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize(
    ("method", "request_type", "field"),
    [
        ("GetDataset", registry_service_pb2.GetDatasetRequest, "datasets/none"),
        ("GetRun", registry_service_pb2.GetRunRequest, "runs/none"),
        ("GetEvaluation", registry_service_pb2.GetEvaluationRequest, "evaluations/none"),
        ("GetArtifact", registry_service_pb2.GetArtifactRequest, "artifacts/none"),
        ("GetModelVersion", registry_service_pb2.GetModelVersionRequest, "models/a/versions/none"),
    ],
)
async def test_what_does_not_exist_is_not_found_and_what_is_no_name_is_refused(
    registry, method, request_type, field
):
    call = getattr(registry.registry, method)
    assert (await registry.failure_of(call(request_type(name=field)))).reason == "RESOURCE_NOT_FOUND"
    for name in ("", "../../etc/passwd", field + "/x", field.upper()):
        assert list((await registry.failure_of(call(request_type(name=name)))).fields) == ["name"]


async def test_output_only_fields_of_datasets_do_not_slip_in(registry):
    request = registry_service_pb2.CreateDatasetRequest(dataset=dataset_pb2.Dataset(trace_count=5))
    failure = await registry.failure_of(registry.registry.CreateDataset(request))
    assert list(failure.fields) == ["dataset.trace_count"]
