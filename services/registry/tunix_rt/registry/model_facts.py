"""Gathers what a model card says."""

from __future__ import annotations

from tunix_rt.registry import baselines, datasets, model_cards, model_events, models, runs, scores
from tunix_rt.registry.database import Transaction
from tunix_rt.rpc import names
from tunix_rt.v1 import dataset_pb2, model_pb2, registry_service_pb2, run_pb2

MAX_EVALUATIONS = 20


async def card(tx: Transaction, request: registry_service_pb2.GetModelCardRequest) -> model_pb2.ModelCard:
    """The card of a version. Raises NotFound."""
    version = await models.get(tx, names.require(request.name, names.MODEL_VERSION, "name"))
    run = await runs.get(tx, version.run) if version.run else None
    facts = model_cards.Facts(
        version=version,
        run=run,
        base=await models.get(tx, run.spec.model) if run else None,
        datasets=tuple(await _training_data(tx, run)) if run else (),
        evaluations=tuple([await scores.get(tx, name) for name in version.evaluations[:MAX_EVALUATIONS]]),
        check=await _check(tx, version),
        events=tuple(await model_events.of_version(tx, version.name)),
    )
    return model_pb2.ModelCard(markdown=model_cards.markdown(facts))


async def _training_data(tx: Transaction, run: run_pb2.Run) -> list[dataset_pb2.Dataset]:
    wanted = dict.fromkeys([run.spec.dataset, *(part.dataset for part in run.spec.mixture)])
    return [await datasets.get(tx, name) for name in wanted]


async def _check(tx: Transaction, version: model_pb2.ModelVersion) -> model_pb2.BaselineCheck | None:
    """The version against the baseline of its model as it is now; None if nothing can be compared."""
    baseline = await baselines.get(tx, names.parent(version.name))
    evaluation = baseline and await baselines.newest_evidence(tx, baseline, version.digest)
    return await baselines.check_evaluation(tx, baseline, evaluation) if baseline and evaluation else None
