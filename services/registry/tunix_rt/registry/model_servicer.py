"""The methods of RegistryService about models: each is a transaction around one function."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.registry import (
    aliases,
    baselines,
    lineage,
    model_events,
    model_facts,
    model_lists,
    models,
    promotion,
)
from tunix_rt.registry.database import Database
from tunix_rt.v1 import model_pb2
from tunix_rt.v1 import registry_service_pb2 as pb

Context = Any


class ModelMethods:
    """Serves model versions, aliases, stages, baselines, lineage and cards."""

    _database: Database
    _blobs: Blobs
    _clock: Callable[[], datetime]

    async def CreateModelVersion(
        self, request: pb.CreateModelVersionRequest, _context: Context
    ) -> model_pb2.ModelVersion:
        """Creates a model version from stored files."""
        facts = await models.check(request, self._blobs)
        async with self._database.transaction() as tx:
            return await models.create(tx, request, facts, self._blobs, now=self._clock())

    async def GetModelVersion(
        self, request: pb.GetModelVersionRequest, _context: Context
    ) -> model_pb2.ModelVersion:
        """Returns a model version."""
        async with self._database.transaction() as tx:
            return await models.get(tx, request.name)

    async def ListModelVersions(
        self, request: pb.ListModelVersionsRequest, _context: Context
    ) -> pb.ListModelVersionsResponse:
        """Lists model versions."""
        async with self._database.transaction() as tx:
            return await models.list_page(tx, request)

    async def ListModels(self, request: pb.ListModelsRequest, _context: Context) -> pb.ListModelsResponse:
        """Lists models."""
        async with self._database.transaction() as tx:
            return await model_lists.list_page(tx, request)

    async def SetModelAlias(
        self, request: pb.SetModelAliasRequest, _context: Context
    ) -> model_pb2.ModelAlias:
        """Points an alias to a version."""
        async with self._database.transaction() as tx:
            return await aliases.set_alias(tx, request, now=self._clock())

    async def DeleteModelAlias(
        self, request: pb.DeleteModelAliasRequest, _context: Context
    ) -> pb.DeleteModelAliasResponse:
        """Removes an alias."""
        async with self._database.transaction() as tx:
            await aliases.delete(tx, request, now=self._clock())
        return pb.DeleteModelAliasResponse()

    async def PromoteModelVersion(
        self, request: pb.PromoteModelVersionRequest, _context: Context
    ) -> model_pb2.ModelVersion:
        """Moves a version to a stage."""
        async with self._database.transaction() as tx:
            return await promotion.promote(tx, request, now=self._clock())

    async def ListModelEvents(
        self, request: pb.ListModelEventsRequest, _context: Context
    ) -> pb.ListModelEventsResponse:
        """Lists what was done to a model."""
        async with self._database.transaction() as tx:
            return await model_events.list_page(tx, request)

    async def SetBaseline(self, request: pb.SetBaselineRequest, _context: Context) -> model_pb2.Baseline:
        """Pins the evaluation that versions of a model are held against."""
        async with self._database.transaction() as tx:
            return await baselines.set_baseline(tx, request, now=self._clock())

    async def CheckBaseline(
        self, request: pb.CheckBaselineRequest, _context: Context
    ) -> model_pb2.BaselineCheck:
        """Holds an evaluation against the baseline of a model."""
        async with self._database.transaction() as tx:
            return await baselines.check(tx, request)

    async def GetLineage(self, request: pb.GetLineageRequest, _context: Context) -> model_pb2.Lineage:
        """Returns what something comes from, and what came of it."""
        async with self._database.transaction() as tx:
            return await lineage.get(tx, request)

    async def GetModelCard(self, request: pb.GetModelCardRequest, _context: Context) -> model_pb2.ModelCard:
        """Writes the card of a version."""
        async with self._database.transaction() as tx:
            return await model_facts.card(tx, request)
