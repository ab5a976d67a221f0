"""The calls behind the pages of models."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from tunix_rt.gateway.web.reads import CALL_SECONDS
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import NotFound
from tunix_rt.v1 import evaluation_pb2, model_pb2
from tunix_rt.v1 import registry_service_pb2 as pb2

SHOWN_EVALUATIONS = 20
SHOWN_EVENTS = 50


@dataclass(frozen=True)
class ModelDetails:
    """A model with a page of its versions and its newest events."""

    model: model_pb2.Model
    versions: Sequence[model_pb2.ModelVersion]
    next_page_token: str
    events: Sequence[model_pb2.ModelEvent]


@dataclass(frozen=True)
class VersionDetails:
    """A version with its newest evaluations, its lineage, its card, and how it holds against the baseline.

    `check` is None where its model has no baseline or no evaluation of it is comparable.
    """

    version: model_pb2.ModelVersion
    evaluations: Sequence[evaluation_pb2.Evaluation]
    check: model_pb2.BaselineCheck | None
    lineage: model_pb2.Lineage
    card: str


async def read_models(registry: Any, page_token: str) -> pb2.ListModelsResponse:
    """A page of models."""
    request = pb2.ListModelsRequest(page_token=page_token)
    page: pb2.ListModelsResponse = await registry.ListModels(request, timeout=CALL_SECONDS)
    return page


async def read_model(registry: Any, name: str, page_token: str) -> ModelDetails:
    """A model. Raises NotFound."""
    listed, versions = await asyncio.gather(
        registry.ListModels(pb2.ListModelsRequest(model=name), timeout=CALL_SECONDS),
        registry.ListModelVersions(
            pb2.ListModelVersionsRequest(parent=name, page_token=page_token), timeout=CALL_SECONDS
        ),
    )
    if not listed.models:
        raise NotFound(name)
    request = pb2.ListModelEventsRequest(parent=name, page_size=SHOWN_EVENTS)
    events = await registry.ListModelEvents(request, timeout=CALL_SECONDS)
    return ModelDetails(listed.models[0], versions.model_versions, versions.next_page_token, events.events)


async def read_version(registry: Any, name: str) -> VersionDetails:
    """A version with all that its page shows. Raises NotFound."""
    version = await registry.GetModelVersion(pb2.GetModelVersionRequest(name=name), timeout=CALL_SECONDS)
    shown = version.evaluations[:SHOWN_EVALUATIONS]
    evaluations, check, lineage, card = await asyncio.gather(
        asyncio.gather(
            *(registry.GetEvaluation(pb2.GetEvaluationRequest(name=n), timeout=CALL_SECONDS) for n in shown)
        ),
        _newest_check(registry, names.parent(name), shown),
        registry.GetLineage(pb2.GetLineageRequest(name=name), timeout=CALL_SECONDS),
        registry.GetModelCard(pb2.GetModelCardRequest(name=name), timeout=CALL_SECONDS),
    )
    return VersionDetails(version, evaluations, check, lineage, card.markdown)


async def _newest_check(
    registry: Any, model: str, evaluations: Sequence[str]
) -> model_pb2.BaselineCheck | None:
    """The check of the newest evaluation that is comparable with the baseline."""
    for name in evaluations:
        request = pb2.CheckBaselineRequest(model=model, evaluation=name)
        try:
            check: model_pb2.BaselineCheck = await registry.CheckBaseline(request, timeout=CALL_SECONDS)
            return check
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
    return None
