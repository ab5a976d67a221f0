"""The boards of a real registry."""

from __future__ import annotations

import pytest

from tunix_rt.jobs.evaluation_spec import complete_evaluation
from tunix_rt.registry.specs import board_key
from tunix_rt.v1 import evaluation_pb2, job_service_pb2, registry_service_pb2


async def evaluate(registry, subject, dataset, correct, total=200, **spec):
    job = job_service_pb2.Job(
        name="evaluations/",
        evaluation=evaluation_pb2.EvaluationSpec(subject=subject, dataset=dataset, **spec),
    )
    made = await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
    return await registry.succeed_evaluation(made.name, correct, total)


async def test_only_comparable_succeeded_evaluations_stand_on_a_board(registry):
    dataset = (await registry.sealed_dataset()).name
    base = await registry.model()
    run = await registry.running(dataset=dataset, model=base)
    await registry.succeed_run(run)
    first = await evaluate(registry, base, dataset, 20)
    await evaluate(registry, base, dataset, 10)
    tuned = await evaluate(registry, run.name, dataset, 150)
    await evaluate(registry, base, dataset, 190, format="tags")
    queued = job_service_pb2.Job(
        name="evaluations/", evaluation=evaluation_pb2.EvaluationSpec(subject=base, dataset=dataset)
    )
    await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=queued))

    request = registry_service_pb2.GetLeaderboardRequest(dataset=dataset)
    boards = (await registry.registry.GetLeaderboard(request)).boards
    assert [board.spec.format for board in boards] == ["answer-line", "tags"]
    assert boards[0].spec.subject == ""
    assert [(e.rank, e.subject, e.evaluation, e.evaluation_count) for e in boards[0].entries] == [
        (1, run.name, tuned.name, 1),
        (2, base, first.name, 2),
    ]
    assert [e.weights_digest for e in boards[0].entries] == [tuned.weights_digest, first.weights_digest]
    assert len({tuned.weights_digest, first.weights_digest, ""}) == 3

    train = registry_service_pb2.GetLeaderboardRequest(dataset=dataset, split="train")
    assert not (await registry.registry.GetLeaderboard(train)).boards
    wrong = registry_service_pb2.GetLeaderboardRequest(dataset=dataset, split="none")
    assert list((await registry.failure_of(registry.registry.GetLeaderboard(wrong))).fields) == ["split"]


async def test_predictions_are_ranked_beside_models_with_the_same_settings(registry):
    dataset = (await registry.sealed_dataset()).name
    base = await registry.model()
    await evaluate(registry, base, dataset, 20)
    digests = [(await registry.upload(text)).sha256 for text in (b"many right", b"few right")]
    await evaluate(registry, "predictors/gpt-x", dataset, 190, predictions=digests[0])
    await evaluate(registry, "predictors/gpt-x", dataset, 100, predictions=digests[1], samples=1)
    request = registry_service_pb2.GetLeaderboardRequest(dataset=dataset)
    (board,) = (await registry.registry.GetLeaderboard(request)).boards
    assert [(e.rank, e.subject, e.evaluation_count) for e in board.entries] == [
        (1, "predictors/gpt-x", 2),
        (2, base, 1),
    ]
    assert board.entries[0].weights_digest == digests[0]
    assert board.spec.predictions == ""
    listed = registry_service_pb2.ListEvaluationsRequest(subject="predictors/gpt-x")
    found = (await registry.registry.ListEvaluations(listed)).evaluations
    assert [each.spec.predictions for each in found] == digests[::-1]


@pytest.mark.parametrize(
    ("subject", "predictions"),
    [("predictors/gpt-x", ""), ("predictors/gpt-x", "a" * 63), ("models/m/versions/v1", "a" * 64)],
)
async def test_predictions_stand_for_the_weights_of_predictors_only(registry, subject, predictions):
    dataset = (await registry.sealed_dataset()).name
    spec = evaluation_pb2.EvaluationSpec(subject=subject, dataset=dataset, predictions=predictions)
    job = job_service_pb2.Job(name="evaluations/", evaluation=spec)
    call = registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
    assert list((await registry.failure_of(call)).fields) == ["job.evaluation.predictions"]


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 2},
        {"few_shot": evaluation_pb2.FewShot(count=1)},
        {"few_shot": evaluation_pb2.FewShot(count=1, seed=1)},
        {"answer_pattern": "x"},
        {"weight_type": "int8"},
        {"decoding": evaluation_pb2.Decoding(min_p=0.1)},
        {"decoding": evaluation_pb2.Decoding(repetition_penalty=1.1)},
        {"decoding": evaluation_pb2.Decoding(stop=["x"])},
    ],
    ids=str,
)
def test_evaluations_that_differ_in_a_setting_stand_on_different_boards(change):
    plain = complete_evaluation(evaluation_pb2.EvaluationSpec(dataset="datasets/d"))
    other = complete_evaluation(evaluation_pb2.EvaluationSpec(dataset="datasets/d", **change))
    assert board_key(plain, "a" * 64) != board_key(other, "a" * 64)
    implied = evaluation_pb2.EvaluationSpec(subject="runs/r", dataset="datasets/copy", samples=1)
    assert board_key(plain, "a" * 64) == board_key(complete_evaluation(implied), "a" * 64)


async def test_examples_come_from_a_split_that_is_there(registry):
    dataset, model = (await registry.sealed_dataset()).name, await registry.model()
    few_shot = evaluation_pb2.FewShot(count=1, split="none")
    spec = evaluation_pb2.EvaluationSpec(subject=model, dataset=dataset, few_shot=few_shot)
    job = job_service_pb2.Job(name="evaluations/", evaluation=spec)
    request = job_service_pb2.EnqueueJobRequest(job=job)
    failure = await registry.failure_of(registry.jobs.EnqueueJob(request))
    assert list(failure.fields) == ["job.evaluation.few_shot.split"]


async def test_a_run_and_the_model_version_made_from_it_are_one_subject(registry):
    dataset = (await registry.sealed_dataset()).name
    run = await registry.running(dataset=dataset)
    await registry.succeed_run(run)
    artifacts = await registry.registry.ListArtifacts(
        registry_service_pb2.ListArtifactsRequest(owner=run.name, kind="model")
    )
    request = registry_service_pb2.CreateModelVersionRequest(parent="models/tuned")
    request.model_version.run = run.name
    request.model_version.files.extend(artifacts.artifacts[0].files)
    version = await registry.registry.CreateModelVersion(request)
    await evaluate(registry, run.name, dataset, 100)
    best = await evaluate(registry, version.name, dataset, 101, decoding=evaluation_pb2.Decoding())
    board = await registry.registry.GetLeaderboard(
        registry_service_pb2.GetLeaderboardRequest(dataset=dataset)
    )
    assert [(e.subject, e.evaluation, e.evaluation_count) for e in board.boards[0].entries] == [
        (version.name, best.name, 2)
    ]


async def test_an_evaluation_cannot_end_with_items_missing(registry):
    dataset = (await registry.sealed_dataset()).name
    job = job_service_pb2.Job(
        name="evaluations/",
        evaluation=evaluation_pb2.EvaluationSpec(subject=await registry.model(), dataset=dataset),
    )
    await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
    claimed = await registry.claim("evaluation")
    score = evaluation_pb2.Score(mean=1, low=0.9, high=1, count=10)
    request = job_service_pb2.FinishJobRequest(
        name=claimed.name, attempt=1, evaluation=evaluation_pb2.EvaluationResult(score=score)
    )
    failure = await registry.failure_of(registry.jobs.FinishJob(request))
    assert list(failure.fields) == ["evaluation.score.count"]
