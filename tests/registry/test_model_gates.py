"""Promotion past a baseline: what holds, what fails and why, and what an override leaves behind."""

from __future__ import annotations

import uuid

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from tunix_rt.registry import gates
from tunix_rt.stats.noninferiority import score_bound
from tunix_rt.v1 import dataset_pb2, evaluation_pb2, job_service_pb2, model_pb2
from tunix_rt.v1 import registry_service_pb2 as pb

ITEMS = 200
TINY, V1, V2 = "models/tiny", "models/tiny/versions/v1", "models/tiny/versions/v2"


def trace(index):
    """Half of the items are about units."""
    meta = Struct()
    meta.update({"section": "units" if index % 2 else "sums"})
    return dataset_pb2.Trace(id=f"t{index}", prompt=f"What is {index}?", final_answer=str(index), meta=meta)


@pytest.fixture
async def dataset(registry):
    splits = [dataset_pb2.Split(name="train", fraction=0.1), dataset_pb2.Split(name="test", fraction=0.9)]
    request = pb.CreateDatasetRequest(dataset=dataset_pb2.Dataset(splits=splits))
    made = await registry.registry.CreateDataset(request)
    await registry.append(made.name, [trace(index) for index in range(ITEMS)])
    return (await registry.registry.SealDataset(pb.SealDatasetRequest(name=made.name))).name


@pytest.fixture
def evaluate(registry, dataset):
    """Evaluates a subject; all items of ITEMS are right but those named, and those left out have no score."""

    async def evaluated(subject, wrong=(), *, without=(), contaminated=0, **spec):
        spec = evaluation_pb2.EvaluationSpec(subject=subject, dataset=dataset, **spec)
        job = job_service_pb2.Job(name="evaluations/", evaluation=spec)
        await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
        job = await registry.claim("evaluation", f"worker-{uuid.uuid4()}")
        item = evaluation_pb2.ItemScore
        items = [
            item(
                trace_id=f"t{index}",
                position=index,
                outcome=item.WRONG if index in wrong else item.CORRECT,
                score=float(index not in wrong),
            )
            for index in range(ITEMS)
            if index not in without
        ]
        call = {"name": job.name, "attempt": job.status.attempt}
        await registry.jobs.RecordItemScores(
            job_service_pb2.RecordItemScoresRequest(**call, item_scores=items)
        )
        mean = sum(each.score for each in items) / len(items)
        score = evaluation_pb2.Score(mean=mean, low=0, high=1, confidence=0.95, count=len(items))
        result = evaluation_pb2.EvaluationResult(score=score, contaminated_count=contaminated)
        await registry.jobs.FinishJob(job_service_pb2.FinishJobRequest(**call, evaluation=result))
        return job.name

    return evaluated


@pytest.fixture
async def baseline(registry, evaluate):
    """The baseline of models/tiny: v1 with 20 wrong items, and a floor on units."""
    assert await registry.model() == V1
    request = pb.CreateModelVersionRequest(parent=TINY)
    request.model_version.files.extend(await registry.files(registry.model_files("tuned")))
    assert (await registry.registry.CreateModelVersion(request)).name == V2
    name = await evaluate(V1, range(20))
    await set_baseline(registry, name, floors=[model_pb2.SectionFloor(section="units", min_score=0.85)])
    return name


async def set_baseline(registry, evaluation, reason="", **fields):
    made = model_pb2.Baseline(model=TINY, evaluation=evaluation, **fields)
    return await registry.registry.SetBaseline(pb.SetBaselineRequest(baseline=made, reason=reason))


async def check(registry, evaluation):
    request = pb.CheckBaselineRequest(model=TINY, evaluation=evaluation)
    return await registry.registry.CheckBaseline(request)


async def promote(registry, name=V2, **fields):
    request = pb.PromoteModelVersionRequest(name=name, stage=model_pb2.MODEL_STAGE_PRODUCTION, **fields)
    return await registry.registry.PromoteModelVersion(request)


async def events(registry):
    return (await registry.registry.ListModelEvents(pb.ListModelEventsRequest(parent=TINY))).events


async def test_defaults_are_filled_in_and_the_baseline_is_an_event(registry, baseline):
    made = await set_baseline(registry, baseline, reason="as agreed")
    assert (made.margin, made.confidence) == (0.02, 0.95)
    assert (await events(registry))[0].reason == "as agreed"
    count = len(await events(registry))
    assert await set_baseline(registry, baseline) == made
    assert len(await events(registry)) == count
    listed = await registry.registry.ListModels(pb.ListModelsRequest())
    assert listed.models[0].baseline == made


async def test_a_better_version_holds_and_is_promoted(registry, baseline, evaluate):
    name = await evaluate(V2, range(5))
    found = await check(registry, name)
    assert (found.passed, found.item_count, found.method) == (True, 200, "score")
    assert (found.difference, found.baseline_score) == (pytest.approx(0.075), pytest.approx(0.9))
    assert found.lower_bound == pytest.approx(score_bound(15, 0, 200))
    assert (await promote(registry)).stage == model_pb2.MODEL_STAGE_PRODUCTION
    event = (await events(registry))[0]
    assert event.description == (
        f"v2: none → production; gate holds: {name} against {baseline}, lower bound {found.lower_bound:+.3f}"
    )
    assert not event.override_gate


async def test_a_worse_version_is_refused_with_scores_and_items(registry, baseline, evaluate):
    await evaluate(V2, [*range(20), *range(21, 91, 2)])
    failure = await registry.failure_of(promote(registry))
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "GATE_FAILED")
    assert "0.725 against 0.900 on 200 items" in failure.message
    assert "Section `units`: 0.550 is below the floor 0.850; the baseline has 0.900" in failure.message
    assert "Lost items (35): t21, t23, t25" in failure.message
    version = await registry.registry.GetModelVersion(pb.GetModelVersionRequest(name=V2))
    assert version.stage == model_pb2.MODEL_STAGE_UNSPECIFIED


async def test_the_check_names_at_most_twenty_lost_items(registry, baseline, evaluate):
    found = await check(registry, await evaluate(V2, range(60)))
    assert (found.lost_count, len(found.lost_items)) == (40, 20)
    assert list(found.lost_items[:2]) == ["t20", "t21"]
    assert not found.passed


async def test_a_floor_fails_alone(registry, baseline, evaluate):
    wrong = [*range(1, 40, 2), 0]
    found = await check(registry, await evaluate(V2, wrong))
    (floor,) = found.floors
    assert (floor.score, floor.baseline_score, floor.item_count) == (0.8, 0.9, 100)
    assert [reason.split(":")[0] for reason in found.reasons] == [
        "0.895 against 0.900 on 200 items",
        "Section `units`",
    ]


async def test_an_override_needs_a_reason_and_is_marked_for_ever(registry, baseline, evaluate):
    await evaluate(V2, range(100))
    promoted = await promote(registry, override_gate=True, reason="the old one is broken")
    assert promoted.gate_overridden
    event = (await events(registry))[0]
    assert (event.override_gate, event.reason) == (True, "the old one is broken")
    await promote(registry, V1)
    again = await registry.registry.GetModelVersion(pb.GetModelVersionRequest(name=V2))
    assert (again.stage, again.gate_overridden) == (model_pb2.MODEL_STAGE_RETIRED, True)


async def test_an_override_that_is_not_needed_is_not_marked(registry, baseline, evaluate):
    await evaluate(V2, ())
    assert not (await promote(registry, override_gate=True, reason="to be safe")).gate_overridden


async def test_a_version_without_a_comparable_evaluation_is_refused(registry, baseline, evaluate):
    await evaluate(V2, (), limit=200)
    failure = await registry.failure_of(promote(registry))
    assert failure.reason == "EVIDENCE_MISSING"
    assert baseline in failure.message


async def test_the_weights_of_the_baseline_hold_against_it(registry, baseline):
    found = await check(registry, baseline)
    assert (found.passed, found.method, found.lower_bound) == (True, "same-weights", 0)
    assert (await promote(registry, V1)).stage == model_pb2.MODEL_STAGE_PRODUCTION


async def test_missing_items_count_against_the_candidate(registry, baseline, evaluate):
    found = await check(registry, await evaluate(V2, (), without=range(150, 200)))
    assert (found.item_count, found.missing_count, found.score) == (200, 50, 0.75)
    assert not found.passed
    assert "50 of them on one side only" in found.reasons[0]


def test_an_item_that_the_baseline_lacks_counts_as_right_there():
    old = gates.Side("evaluations/old", {"a": 0.0}, frozenset(), "1")
    new = gates.Side("evaluations/new", {"a": 1.0, "b": 1.0}, frozenset({"a", "b"}), "2")
    found = gates.check(model_pb2.Baseline(margin=1, confidence=0.95), old, new, {})
    assert (found.baseline_score, found.score, found.difference) == (0.5, 1.0, 0.5)


def test_a_floor_may_be_on_another_part_than_a_section():
    floor = model_pb2.SectionFloor(section="family=chain", min_score=1)
    side = gates.Side("evaluations/a", {"a": 1.0, "b": 0.0}, frozenset({"a"}), "1")
    found = gates.check(
        model_pb2.Baseline(margin=1, confidence=0.95, floors=[floor]), side, side, {"a": {"family": "chain"}}
    )
    assert (found.passed, found.floors[0].item_count) == (True, 1)


async def test_a_contaminated_evaluation_is_no_evidence(registry, baseline, evaluate):
    found = await check(registry, await evaluate(V2, (), contaminated=12))
    assert list(found.reasons) == ["12 items also occur in the training data, so the score proves nothing."]


async def test_evaluations_of_other_specs_are_not_comparable(registry, baseline, evaluate):
    failure = await registry.failure_of(check(registry, await evaluate(V2, (), system_prompt="Think.")))
    assert (failure.reason, "system_prompt (Think." in failure.message) == ("NOT_COMPARABLE", True)


async def test_a_check_needs_a_baseline(registry, evaluate):
    await registry.model()
    failure = await registry.failure_of(check(registry, await evaluate(V1)))
    assert failure.reason == "BASELINE_MISSING"


async def test_a_baseline_needs_a_succeeded_evaluation(registry, dataset):
    await registry.model()
    job = job_service_pb2.Job(
        name="evaluations/", evaluation=evaluation_pb2.EvaluationSpec(subject=V1, dataset=dataset)
    )
    queued = await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
    failure = await registry.failure_of(set_baseline(registry, queued.name))
    assert failure.reason == "EVALUATION_NOT_FINISHED"


async def test_all_bad_fields_of_a_baseline_are_named(registry):
    floors = [
        model_pb2.SectionFloor(section="colour=red", min_score=2),
        model_pb2.SectionFloor(section="units"),
        model_pb2.SectionFloor(section="units"),
    ]
    made = model_pb2.Baseline(model="tiny", margin=-1, confidence=0.5, floors=floors)
    call = registry.registry.SetBaseline(pb.SetBaselineRequest(baseline=made))
    assert set((await registry.failure_of(call)).fields) == {
        "baseline.model",
        "baseline.evaluation",
        "baseline.margin",
        "baseline.confidence",
        "baseline.floors[0].section",
        "baseline.floors[0].min_score",
        "baseline.floors[2].section",
    }


async def test_a_floor_on_a_section_that_no_item_has_is_refused(registry, baseline):
    floors = [model_pb2.SectionFloor(section="unit", min_score=0.5)]
    failure = await registry.failure_of(set_baseline(registry, baseline, floors=floors))
    assert "its sections are sums, units" in failure.fields["baseline.floors[0].section"]


def test_items_of_one_family_are_clustered():
    old = gates.Side("evaluations/old", {f"t{i}": 1.0 for i in range(100)}, frozenset(), "1")
    new = gates.Side("evaluations/new", {f"t{i}": float(i > 9) for i in range(100)}, frozenset(), "2")
    metas = {f"t{i}": {"family": f"f{i // 10}"} for i in range(100)}
    found = gates.check(model_pb2.Baseline(margin=0.02, confidence=0.95), old, new, metas)
    assert (found.method, found.cluster_count) == ("clustered", 10)
