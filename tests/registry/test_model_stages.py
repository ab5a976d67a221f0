"""Aliases and stages of models: moved, resolved, recorded for good; at most one version in production."""

from __future__ import annotations

import asyncio

import grpc
import psycopg
import pytest

from tunix_rt.v1 import evaluation_pb2, job_service_pb2, model_pb2
from tunix_rt.v1 import registry_service_pb2 as pb

CANDIDATE, PRODUCTION, RETIRED = (
    model_pb2.MODEL_STAGE_CANDIDATE,
    model_pb2.MODEL_STAGE_PRODUCTION,
    model_pb2.MODEL_STAGE_RETIRED,
)
V1, V2, CHAMPION = "models/tiny/versions/v1", "models/tiny/versions/v2", "models/tiny/aliases/champion"


@pytest.fixture
async def api(registry):
    """The stub of a registry with two versions of models/tiny."""
    assert [await registry.model(), await registry.model()] == [V1, V2]
    return registry.registry


async def point(api, version, alias=CHAMPION, reason=""):
    return await api.SetModelAlias(pb.SetModelAliasRequest(name=alias, version=version, reason=reason))


async def promote(api, name, stage=PRODUCTION, **fields):
    return await api.PromoteModelVersion(pb.PromoteModelVersionRequest(name=name, stage=stage, **fields))


async def get(api, name):
    return await api.GetModelVersion(pb.GetModelVersionRequest(name=name))


async def events(api):
    page = await api.ListModelEvents(pb.ListModelEventsRequest(parent="models/tiny"))
    return [(event.kind, event.description, event.reason) for event in page.events]


async def test_an_alias_is_moved_and_every_move_is_an_event(api):
    await point(api, V1)
    made = await point(api, V2, reason="better on units")
    await point(api, V2)
    assert (made.name, made.version) == (CHAMPION, V2)
    assert await events(api) == [
        ("alias-set", "champion: v1 → v2", "better on units"),
        ("alias-set", "champion: v1", ""),
    ]


async def test_names_of_models_and_aliases_stand_for_versions(api):
    await point(api, V1)
    assert (await get(api, CHAMPION)).name == V1
    assert (await get(api, "models/tiny")).name == V2
    assert list((await get(api, V1)).aliases) == ["champion"]


async def test_a_removed_alias_stands_for_nothing(registry, api):
    await point(api, V1)
    await api.DeleteModelAlias(pb.DeleteModelAliasRequest(name=CHAMPION, reason="retired"))
    assert (await registry.failure_of(get(api, CHAMPION))).reason == "RESOURCE_NOT_FOUND"
    assert (await events(api))[0] == ("alias-deleted", "champion: v1 → none", "retired")
    again = api.DeleteModelAlias(pb.DeleteModelAliasRequest(name=CHAMPION))
    assert (await registry.failure_of(again)).code == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({"name": "models/tiny/aliases/Champion", "version": "v1"}, {"name", "version"}),
        ({"name": CHAMPION, "version": "models/other/versions/v1"}, {"version"}),
        ({"name": CHAMPION, "version": V1, "reason": "x" * 2001}, {"reason"}),
    ],
)
async def test_bad_aliases_are_refused(registry, api, fields, bad):
    failure = await registry.failure_of(api.SetModelAlias(pb.SetModelAliasRequest(**fields)))
    assert set(failure.fields) == bad


async def test_an_alias_needs_a_version_that_exists(registry, api):
    failure = await registry.failure_of(point(api, "models/tiny/versions/v9"))
    assert failure.reason == "RESOURCE_NOT_FOUND"


async def test_a_promotion_retires_the_version_before_it(api):
    await promote(api, V1)
    assert (await promote(api, V2, reason="first week went well")).stage == PRODUCTION
    assert [(await get(api, name)).stage for name in (V1, V2)] == [RETIRED, PRODUCTION]
    assert await events(api) == [
        ("stage", "v2: none → production; no gate: the model has no baseline", "first week went well"),
        ("stage", "v1: production → retired; v2 takes its place", ""),
        ("stage", "v1: none → production; no gate: the model has no baseline", ""),
    ]


async def test_concurrent_promotions_leave_one_version_in_production(api):
    await asyncio.gather(*(promote(api, name) for name in (V1, V2) * 5))
    stages = [(await get(api, name)).stage for name in (V1, V2)]
    assert sorted(stages) == [PRODUCTION, RETIRED]


async def test_the_stage_that_holds_already_changes_nothing(api):
    await promote(api, V1, CANDIDATE)
    await promote(api, V1, CANDIDATE)
    assert len(await events(api)) == 1


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({"name": "tiny"}, {"name", "stage"}),
        ({"name": V1, "stage": 9}, {"stage"}),
        ({"name": V1, "stage": PRODUCTION, "override_gate": True, "reason": " "}, {"reason"}),
        ({"name": V1, "stage": RETIRED, "override_gate": True, "reason": "so"}, {"override_gate"}),
    ],
)
async def test_bad_promotions_are_refused(registry, api, fields, bad):
    failure = await registry.failure_of(api.PromoteModelVersion(pb.PromoteModelVersionRequest(**fields)))
    assert set(failure.fields) == bad


async def test_events_cannot_be_changed_in_the_database(registry, api):
    await point(api, V1)
    with psycopg.connect(registry.database, autocommit=True) as connection:
        for statement in ("DELETE FROM model_events", "UPDATE model_events SET parent = 'models/other'"):
            with pytest.raises(psycopg.errors.RaiseException):
                connection.execute(statement)


async def test_events_come_in_pages(api):
    for version in (V1, V2, V1):
        await point(api, version)
    request = pb.ListModelEventsRequest(parent="models/tiny", page_size=2)
    first = await api.ListModelEvents(request)
    request.page_token = first.next_page_token
    second = await api.ListModelEvents(request)
    assert [event.description for page in (first, second) for event in page.events] == [
        "champion: v2 → v1",
        "champion: v1 → v2",
        "champion: v1",
    ]
    assert not second.next_page_token


async def test_models_are_listed_by_name_with_what_points_to_them(registry, api):
    await point(api, V1)
    await promote(api, V2)
    request = pb.CreateModelVersionRequest(parent="models/another")
    request.model_version.files.extend(await registry.files(registry.model_files()))
    await api.CreateModelVersion(request)
    first = await api.ListModels(pb.ListModelsRequest(page_size=1))
    second = await api.ListModels(pb.ListModelsRequest(page_size=1, page_token=first.next_page_token))
    (another,), (tiny,) = first.models, second.models
    assert (another.name, another.production_version) == ("models/another", "")
    assert (tiny.newest_version, tiny.production_version, tiny.version_count) == (V2, V2, 2)
    assert [(alias.name, alias.version) for alias in tiny.aliases] == [(CHAMPION, V1)]
    assert not second.next_page_token
    assert list((await api.ListModels(pb.ListModelsRequest(model="models/tiny"))).models) == [tiny]


async def test_a_model_without_versions_has_no_events(registry):
    call = registry.registry.ListModelEvents(pb.ListModelEventsRequest(parent="models/none"))
    assert (await registry.failure_of(call)).reason == "RESOURCE_NOT_FOUND"


async def test_stage_and_aliases_cannot_be_given_with_a_new_version(registry):
    request = pb.CreateModelVersionRequest(parent="models/tiny")
    request.model_version.files.extend(await registry.files(registry.model_files()))
    request.model_version.stage = PRODUCTION
    request.model_version.aliases.append("champion")
    failure = await registry.failure_of(registry.registry.CreateModelVersion(request))
    assert set(failure.fields) == {"model_version.stage", "model_version.aliases"}


async def test_evaluations_of_the_weights_are_a_versions_evidence(registry, api):
    dataset = (await registry.sealed_dataset()).name
    job = job_service_pb2.Job(
        name="evaluations/", evaluation=evaluation_pb2.EvaluationSpec(subject=V1, dataset=dataset)
    )
    queued = await registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
    assert list((await get(api, V1)).evaluations) == []
    await registry.succeed_evaluation(queued.name, 3, 4)
    assert list((await get(api, V1)).evaluations) == [queued.name]
    listed = await api.ListModelVersions(pb.ListModelVersionsRequest())
    assert listed.model_versions[-1] == await get(api, V1)


async def test_a_version_is_not_made_of_bytes_that_a_deletion_takes_meanwhile(registry):
    request = pb.CreateModelVersionRequest(parent="models/tiny")
    request.model_version.files.extend(await registry.files(registry.model_files("going")))
    (tokenizer,) = [f for f in request.model_version.files if f.path == "tokenizer.json"]
    async with await psycopg.AsyncConnection.connect(registry.database, autocommit=True) as deletion:
        await deletion.execute("SELECT pg_advisory_lock(7303014422)")
        creating = asyncio.ensure_future(registry.registry.CreateModelVersion(request))
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        async with asyncio.timeout(10):
            while not await (await deletion.execute(waiting)).fetchone():
                pass
        (stored,) = registry.blobs.rglob(f"*{tokenizer.sha256[4:]}*")
        stored.unlink()
        await deletion.execute("SELECT pg_advisory_unlock(7303014422)")
        failure = await registry.failure_of(creating)
    assert failure.reason == "BLOB_MISSING"
