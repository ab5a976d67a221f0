"""From dataset to version: lineage of what really happened, and the card that is written from it."""

from __future__ import annotations

import pytest
import yaml

from tunix_rt.registry import lineage, model_cards
from tunix_rt.v1 import evaluation_pb2, job_service_pb2, model_pb2, run_pb2
from tunix_rt.v1 import registry_service_pb2 as pb

BASE, TUNED = "models/tiny/versions/v1", "models/tuned/versions/v1"


@pytest.fixture
async def made(registry):
    """The names of a dataset, a run on it, its final weights, their evaluation and a version."""
    dataset = (await registry.sealed_dataset()).name
    after = [evaluation_pb2.EvaluationSpec(dataset=dataset)]
    job = await registry.running(dataset=dataset, train_split="train", seed=7, steps=3, evaluate_after=after)
    await registry.succeed_run(job)
    run = await registry.registry.GetRun(pb.GetRunRequest(name=job.name))
    (evaluation,) = run.evaluations
    await registry.succeed_evaluation(evaluation, 9, 12)
    artifact = await registry.registry.GetArtifact(pb.GetArtifactRequest(name=run.model_artifact))
    request = pb.CreateModelVersionRequest(parent="models/tuned")
    request.model_version.run = run.name
    request.model_version.files.extend(artifact.files)
    assert (await registry.registry.CreateModelVersion(request)).name == TUNED
    return {"dataset": dataset, "run": run.name, "artifact": artifact.name, "evaluation": evaluation}


async def get(registry, name):
    return await registry.registry.GetLineage(pb.GetLineageRequest(name=name))


def by_name(found):
    return {node.name: node for node in found.nodes}


async def test_a_version_leads_back_to_base_and_data(registry, made):
    found = await get(registry, TUNED)
    assert {node.name: node.kind for node in found.nodes} == {
        BASE: "model-version",
        made["dataset"]: "dataset",
        made["run"]: "run",
        made["artifact"]: "checkpoint",
        made["evaluation"]: "evaluation",
        TUNED: "model-version",
    }
    nodes = by_name(found)
    assert list(nodes[TUNED].sources) == [made["artifact"], made["evaluation"]]
    assert list(nodes[made["evaluation"]].sources) == [made["artifact"], made["dataset"]]
    assert list(nodes[made["artifact"]].sources) == [made["run"]]
    assert list(nodes[made["run"]].sources) == [BASE, made["dataset"]]
    assert not found.truncated


async def test_digests_are_those_of_the_bytes(registry, made):
    nodes = by_name(await get(registry, TUNED))
    dataset = await registry.registry.GetDataset(pb.GetDatasetRequest(name=made["dataset"]))
    run = await registry.registry.GetRun(pb.GetRunRequest(name=made["run"]))
    assert nodes[made["dataset"]].digest == dataset.sha256
    assert nodes[TUNED].digest == nodes[made["artifact"]].digest == run.weights_digest


@pytest.mark.parametrize("origin", ["dataset", "run", "evaluation"])
async def test_what_came_of_something_is_found_too(registry, made, origin):
    assert TUNED in by_name(await get(registry, made[origin]))


async def test_a_base_leads_to_what_was_trained_from_it(registry, made):
    assert set(by_name(await get(registry, BASE))) == {BASE, TUNED, *made.values()}


async def test_sources_stand_before_what_was_made_from_them(registry, made):
    order = [node.name for node in (await get(registry, BASE)).nodes]
    for node in (await get(registry, BASE)).nodes:
        assert all(order.index(source) < order.index(node.name) for source in node.sources)


def test_nodes_are_ordered_through_diamonds():
    edges = {"d": "bc", "b": "a", "c": "ab", "a": ""}
    nodes = [model_pb2.LineageNode(name=name, sources=sources) for name, sources in edges.items()]
    assert [node.name for node in lineage.in_order(nodes)] == ["a", "b", "c", "d"]


async def test_more_than_fits_is_said_to_be_cut(registry, made, monkeypatch):
    monkeypatch.setattr(lineage, "MAX_NODES", 4)
    found = await get(registry, BASE)
    assert (len(found.nodes) <= 4, found.truncated) == (True, True)


async def test_what_is_not_there_has_no_lineage(registry):
    assert (await registry.failure_of(get(registry, "runs/none"))).reason == "RESOURCE_NOT_FOUND"
    assert list((await registry.failure_of(get(registry, "tasks/a"))).fields) == ["name"]


async def card(registry, name):
    return (await registry.registry.GetModelCard(pb.GetModelCardRequest(name=name))).markdown


async def test_a_card_states_what_is_recorded(registry, made):
    text = await card(registry, TUNED)
    _, block, body = text.split("---\n", 2)
    metadata = yaml.safe_load(block)
    (result,) = metadata["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "name": "exact-answer@2", "value": 0.75}]
    assert metadata["library_name"] == "transformers"
    assert f"`{made['run']}` trained `{BASE}`" in body
    assert "| `seed` | 7 |" in body
    assert "0.750 | 0.468 to 0.911 (95%)" in body
    assert "licence | not stated" in body
    assert f"tunix-rt models download {TUNED}" in body


async def test_the_card_of_weights_that_nobody_evaluated_says_so(registry):
    text = await card(registry, await registry.model(description="A | small one."))
    assert "These weights have not been evaluated." in text
    assert "model-index" not in text
    assert "## Training" not in text


async def test_the_card_tells_of_an_overridden_gate(registry, made):
    version = await registry.model()
    pinned = model_pb2.Baseline(model="models/tiny", evaluation=made["evaluation"])
    await registry.registry.SetBaseline(pb.SetBaselineRequest(baseline=pinned))
    stage = model_pb2.MODEL_STAGE_PRODUCTION
    request = pb.PromoteModelVersionRequest(
        name=version, stage=stage, override_gate=True, reason="demo | day"
    )
    await registry.registry.PromoteModelVersion(request)
    text = await card(registry, version)
    assert "| stage | production, gate overridden |" in text
    assert "gate overridden: no evidence **(gate overridden)**: demo \\| day" in text


async def test_the_card_holds_a_version_against_the_baseline(registry, made):
    pinned = model_pb2.Baseline(model="models/tuned", evaluation=made["evaluation"])
    await registry.registry.SetBaseline(pb.SetBaselineRequest(baseline=pinned))
    assert f"**holds** against `{made['evaluation']}`: 0.750 against 0.750" in await card(registry, TUNED)


def test_another_file_than_the_runs_is_told():
    version = model_pb2.ModelVersion(name=TUNED, digest="a" * 64)
    run = run_pb2.Run(name="runs/a", weights_digest="b" * 64)
    text = model_cards.markdown(model_cards.Facts(version=version, run=run, base=version))
    assert "not those that the run ended with" in text


async def test_a_card_is_of_a_version(registry):
    failure = await registry.failure_of(card(registry, "models/tiny"))
    assert list(failure.fields) == ["name"]


def test_evaluations_by_perplexity_are_no_accuracy():
    spec = evaluation_pb2.EvaluationSpec(method="perplexity", dataset="datasets/a")
    facts = model_cards.Facts(
        version=model_pb2.ModelVersion(name=TUNED),
        evaluations=[evaluation_pb2.Evaluation(name="evaluations/a", spec=spec)],
    )
    assert "accuracy" not in model_cards.markdown(facts)


async def test_checkpoints_belong_to_their_run(registry):
    job = await registry.running()
    request = job_service_pb2.RecordArtifactRequest(name=job.name, attempt=job.status.attempt)
    request.artifact.kind, request.artifact.step = "checkpoint", 2
    request.artifact.files.append(await registry.upload(b"state"))
    recorded = await registry.jobs.RecordArtifact(request)
    nodes = by_name(await get(registry, job.name))
    assert (nodes[recorded.name].kind, list(nodes[recorded.name].sources)) == ("checkpoint", [job.name])
