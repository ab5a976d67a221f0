"""The pages of models: all of them, one with its history, one version with what it rests on."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tunix_rt.gateway.backends import Backends
from tunix_rt.gateway.web import model_reads
from tunix_rt.gateway.web.pages import Pages
from tunix_rt.rpc import names


class ModelPages:
    """The handlers of the pages about models."""

    def __init__(self, backends: Backends, pages: Pages) -> None:
        self._registry: Any = backends.registry
        self._pages = pages

    async def models(self, request: Request) -> Response:
        """All models by name."""
        found = await model_reads.read_models(self._registry, request.query_params.get("page_token", ""))
        return self._pages.page("models.html", models=found.models, next_page_token=found.next_page_token)

    async def model(self, request: Request) -> Response:
        """One model: versions, aliases, baseline and events."""
        name = names.require(f"models/{request.path_params['id']}", names.MODEL, "name")
        token = request.query_params.get("page_token", "")
        return self._pages.page(
            "model.html", details=await model_reads.read_model(self._registry, name, token)
        )

    async def version(self, request: Request) -> Response:
        """One version: stage, evidence, gate, lineage, card."""
        path = request.path_params
        name = f"models/{path['id']}/versions/{path['version']}"
        names.require(name, names.MODEL_VERSION, "name")
        return self._pages.page("version.html", details=await model_reads.read_version(self._registry, name))
