"""Ranks, filters and marks of the leaderboard, on a real registry."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tunix_rt.scoring.shares import share_score
from tunix_rt.stats.intervals import wilson
from tunix_rt.v1 import dataset_pb2, evaluation_pb2, job_service_pb2, registry_service_pb2

Item = evaluation_pb2.ItemScore


async def dataset_of(registry, metas):
    """A sealed dataset whose traces stand all in `test`, one for each metadata."""
    split = dataset_pb2.Split(name="test", fraction=1.0)
    made = await registry.registry.CreateDataset(
        registry_service_pb2.CreateDatasetRequest(dataset=dataset_pb2.Dataset(splits=[split]))
    )
    traces = registry.make_traces(len(metas))
    for trace, meta in zip(traces, metas, strict=True):
        trace.meta.update(meta)
    await registry.append(made.name, traces)
    return (await registry.registry.SealDataset(registry_service_pb2.SealDatasetRequest(name=made.name))).name


async def evaluate(registry, subject, dataset, scores, *, spec=None, **result):
    """A succeeded evaluation with these item scores; of several samples an item, lists of them."""
    samples = [each if isinstance(each, list) else [each] for each in scores]
    made = evaluation_pb2.EvaluationSpec(subject=subject, dataset=dataset, **(spec or {}))
    if made.predictions:
        made.predictions = (await registry.upload(made.predictions.encode())).sha256
    job = job_service_pb2.Job(name="evaluations/", evaluation=made)
    name = (await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))).name
    claimed = await registry.claim("evaluation", f"worker-of-{name.replace('/', '-')}")
    assert claimed.name == name
    items = [
        Item(
            trace_id=f"t{position}",
            position=position,
            sample=sample,
            outcome=Item.CORRECT if score == 1 else Item.WRONG,
            score=score,
        )
        for position, own in enumerate(samples)
        for sample, score in enumerate(own)
    ]
    record = job_service_pb2.RecordItemScoresRequest(name=name, attempt=1, item_scores=items)
    await registry.jobs.RecordItemScores(record)
    means = [sum(own) / len(own) for own in samples]
    mean = sum(means) / len(means)
    interval = wilson(round(sum(means)), len(means))
    score = evaluation_pb2.Score(
        mean=mean, low=min(interval.low, mean), high=max(interval.high, mean), count=len(means)
    )
    await registry.jobs.FinishJob(
        job_service_pb2.FinishJobRequest(
            name=name, attempt=1, evaluation=evaluation_pb2.EvaluationResult(score=score, **result)
        )
    )
    return name


def right(count, of):
    return [1.0] * count + [0.0] * (of - count)


async def boards(registry, dataset, **fields):
    request = registry_service_pb2.GetLeaderboardRequest(dataset=dataset, **fields)
    return (await registry.registry.GetLeaderboard(request)).boards


async def entries(registry, dataset, **fields):
    (board,) = await boards(registry, dataset, **fields)
    return board.entries


async def trained_run(registry, dataset, model, **labels):
    """A succeeded run on a model, with labels."""
    from tunix_rt.v1 import run_pb2

    job = job_service_pb2.Job(
        name="runs/", run=run_pb2.RunSpec(dataset=dataset, model=model, train_split="test"), labels=labels
    )
    made = await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
    claimed = await registry.claim(worker=f"worker-of-{made.name.replace('/', '-')}")
    await registry.succeed_run(claimed)
    return made.name


async def version_of(registry, run, model):
    """A model version made from the final weights of a run."""
    artifacts = await registry.registry.ListArtifacts(
        registry_service_pb2.ListArtifactsRequest(owner=run, kind="model")
    )
    request = registry_service_pb2.CreateModelVersionRequest(parent=model)
    request.model_version.run = run
    request.model_version.files.extend(artifacts.artifacts[0].files)
    return (await registry.registry.CreateModelVersion(request)).name


async def test_ties_are_what_the_paired_test_does_not_separate(registry):
    dataset = await dataset_of(registry, [{}] * 40)
    await evaluate(registry, "predictors/c", dataset, right(20, 40), spec={"predictions": "c" * 64})
    await evaluate(registry, "predictors/a", dataset, right(40, 40), spec={"predictions": "a" * 64})
    await evaluate(registry, "predictors/b", dataset, right(36, 40), spec={"predictions": "b" * 64})
    found = await entries(registry, dataset)
    assert [(e.rank, e.subject) for e in found] == [
        (1, "predictors/a"),
        (1, "predictors/b"),
        (3, "predictors/c"),
    ]
    assert [e.HasField("tie_p_value") for e in found] == [False, True, False]
    assert found[1].tie_p_value == 0.125


async def test_samples_of_an_item_are_averaged_before_they_are_paired(registry):
    dataset = await dataset_of(registry, [{}] * 3)
    spec = {"samples": 2, "decoding": evaluation_pb2.Decoding(temperature=1)}
    best, other = [[1.0, 1.0]] * 3, [[1.0, 0.0]] * 3
    await evaluate(registry, "predictors/a", dataset, best, spec=spec | {"predictions": "a" * 64})
    await evaluate(registry, "predictors/b", dataset, other, spec=spec | {"predictions": "b" * 64})
    found = await entries(registry, dataset)
    assert [(e.rank, e.tie_p_value) for e in found] == [(1, 0.0), (1, 0.25)]


async def test_items_in_ten_families_are_tested_by_family(registry):
    dataset = await dataset_of(registry, [{"family": f"f{i // 2}"} for i in range(20)])
    await evaluate(registry, "predictors/a", dataset, right(20, 20), spec={"predictions": "a" * 64})
    await evaluate(registry, "predictors/b", dataset, right(10, 20), spec={"predictions": "b" * 64})
    found = await entries(registry, dataset)
    # By item p is 2/2¹⁰; the 10 items are 5 families, and 2/2⁵ separates nothing.
    assert [(e.rank, e.tie_p_value) for e in found] == [(1, 0.0), (1, 0.0625)]


METAS = [
    *({"section": "sums", "category": "short"},) * 8,
    *({"section": "sums", "category": "long"},) * 8,
    *({"section": "units", "category": "short"},) * 8,
]


async def test_a_section_is_ranked_by_its_own_items(registry):
    dataset = await dataset_of(registry, METAS)
    mostly = [0.0] * 8 + [1.0] * 16
    only_sums = [1.0] * 16 + [0.0] * 8
    await evaluate(registry, "predictors/a", dataset, mostly, spec={"predictions": "a" * 64})
    await evaluate(registry, "predictors/b", dataset, only_sums, spec={"predictions": "b" * 64})
    whole = await entries(registry, dataset)
    sums = await entries(registry, dataset, section="sums")
    both = await entries(registry, dataset, section="sums", category="short")
    assert [e.subject for e in whole] == ["predictors/a", "predictors/b"]
    assert [(e.rank, e.subject, e.score.mean, e.score.count) for e in sums] == [
        (1, "predictors/b", 1.0, 16),
        (2, "predictors/a", 0.5, 16),
    ]
    assert [(e.subject, e.score.mean, e.score.count) for e in both] == [
        ("predictors/b", 1.0, 8),
        ("predictors/a", 0.0, 8),
    ]
    expected = wilson(8, 16)
    assert (sums[1].score.low, sums[1].score.high) == (expected.low, expected.high)
    assert sums[1].score.method == "wilson"


async def test_the_best_evaluation_of_a_section_stands_for_the_subject(registry):
    dataset = await dataset_of(registry, METAS)
    better = [0.0] * 8 + [1.0] * 16
    at_sums = [1.0] * 10 + [0.0] * 14
    first = await evaluate(registry, "predictors/a", dataset, better, spec={"predictions": "a" * 64})
    second = await evaluate(registry, "predictors/a", dataset, at_sums, spec={"predictions": "b" * 64})
    assert [e.evaluation for e in await entries(registry, dataset)] == [first]
    (entry,) = await entries(registry, dataset, section="sums", category="short")
    assert (entry.evaluation, entry.evaluation_count) == (second, 2)


async def test_parts_that_no_item_has_are_named_together(registry):
    dataset = await dataset_of(registry, METAS)
    request = registry_service_pb2.GetLeaderboardRequest(
        dataset=dataset, section="sum", category="x", split="train"
    )
    failure = await registry.failure_of(registry.registry.GetLeaderboard(request))
    assert failure.fields == {
        "split": f"is `train`; `{dataset}` has test.",
        "section": f"is `sum`; the items of `{dataset}` have sums, units.",
        "category": f"is `x`; the items of `{dataset}` have short, long.",
    }


async def test_filters_that_cannot_be_are_named_together(registry):
    request = registry_service_pb2.GetLeaderboardRequest(
        models=["models/m", "models/m/versions/v1"], section="a\nb"
    )
    request.ended_from.seconds = 10**13
    failure = await registry.failure_of(registry.registry.GetLeaderboard(request))
    assert list(failure.fields) == ["dataset", "models[1]", "ended_from", "section"]


async def test_filters_choose_by_model_label_and_time(open_registry, clock):
    clock.now = datetime(2026, 1, 1, tzinfo=UTC)
    registry = await open_registry(clock=clock)
    dataset = await dataset_of(registry, [{}] * 12)
    base = await registry.model()
    run = await trained_run(registry, dataset, base, team="red", stage="x")
    version = await version_of(registry, run, "models/tuned")
    await evaluate(registry, base, dataset, right(3, 12))
    clock.advance(60)
    await evaluate(registry, run, dataset, right(10, 12))
    await evaluate(registry, "predictors/p", dataset, right(9, 12), spec={"predictions": "a" * 64})

    async def subjects(**fields):
        return [e.subject for board in await boards(registry, dataset, **fields) for e in board.entries]

    assert await subjects() == [run, "predictors/p", base]
    assert await subjects(models=["models/tiny"]) == [run, base]
    assert await subjects(models=["models/tuned"]) == [run]
    assert await subjects(models=["models/none"]) == []
    assert await subjects(labels={"team": "red", "stage": ""}) == [run]
    assert await subjects(labels={"team": "blue"}) == []
    assert await subjects(ended_from=datetime(2026, 1, 1, 0, 1, tzinfo=UTC)) == [run, "predictors/p"]
    await evaluate(registry, version, dataset, right(11, 12))
    assert await subjects(labels={"team": "red"}) == [version]
    assert await subjects(models=["models/tiny"]) == [version, base]


async def test_an_entry_names_the_model_that_it_is_or_comes_from(registry):
    dataset = await dataset_of(registry, [{}] * 12)
    base = await registry.model()
    first = await trained_run(registry, dataset, base)
    second = await trained_run(registry, dataset, base)
    version = await version_of(registry, second, "models/tuned")
    await evaluate(registry, base, dataset, right(3, 12))
    await evaluate(registry, first, dataset, right(10, 12))
    await evaluate(registry, second, dataset, right(11, 12))
    await evaluate(registry, "predictors/p", dataset, right(2, 12), spec={"predictions": "a" * 64})
    found = await entries(registry, dataset)
    assert {e.subject: e.model for e in found} == {
        base: base,
        first: base,
        second: version,
        "predictors/p": "",
    }
    best = await entries(registry, dataset, best_of_model=True)
    assert [(e.subject, e.evaluation_count) for e in best] == [(second, 1), (first, 2), ("predictors/p", 1)]


@pytest.mark.parametrize(
    ("result", "scores", "reason"),
    [
        ({}, right(5, 12), ""),
        ({"contaminated_count": 3}, right(5, 12), "3 of 12 items contaminated"),
        ({}, right(5, 10), "only 10 of 12 items"),
        ({"outcomes": evaluation_pb2.OutcomeCounts(failed=1)}, right(5, 12), "1 output failed"),
        (
            {"contaminated_count": 1, "outcomes": evaluation_pb2.OutcomeCounts(failed=2)},
            right(5, 11),
            "1 of 11 items contaminated; only 11 of 12 items; 2 outputs failed",
        ),
    ],
)
async def test_what_does_not_count_fully_is_marked(registry, result, scores, reason):
    dataset = await dataset_of(registry, [{}] * 12)
    spec = {"predictions": "a" * 64, "limit": len(scores) if len(scores) < 12 else 0}
    await evaluate(registry, "predictors/p", dataset, scores, spec=spec, **result)
    (entry,) = await entries(registry, dataset)
    assert entry.override_reason == reason


async def test_a_section_of_several_samples_has_the_interval_of_the_bootstrap(registry):
    dataset = await dataset_of(registry, METAS)
    spec = {"samples": 2, "decoding": evaluation_pb2.Decoding(temperature=1)}
    scores = [[1.0, float(i % 3 == 0)] for i in range(24)]
    await evaluate(registry, "predictors/a", dataset, scores, spec=spec | {"predictions": "a" * 64})
    await evaluate(registry, "predictors/b", dataset, scores[::-1], spec=spec | {"predictions": "b" * 64})
    found = await entries(registry, dataset, section="sums")
    expected = share_score([sum(own) / 2 for own in scores[:16]])
    (entry,) = [each for each in found if each.subject == "predictors/a"]
    assert (entry.score.method, entry.score.mean, entry.score.count) == ("bca", expected.mean, 16)
    assert (entry.score.low, entry.score.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
