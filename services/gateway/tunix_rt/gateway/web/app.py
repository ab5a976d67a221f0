"""The web application: routes, access, headers, and what an error looks like."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tunix_rt.gateway.auth import TokenGate
from tunix_rt.gateway.backends import Backends, own_error
from tunix_rt.gateway.settings import is_loopback
from tunix_rt.gateway.web.access import AccessMiddleware, HeadersMiddleware, SignIn
from tunix_rt.gateway.web.api import Api
from tunix_rt.gateway.web.artifacts import ArtifactPages
from tunix_rt.gateway.web.assets import plotly_path, plotly_script
from tunix_rt.gateway.web.model_pages import ModelPages
from tunix_rt.gateway.web.pages import Pages
from tunix_rt.rpc.errors import ApiError
from tunix_rt.rpc.status import code_of, status_of, to_status

_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_TITLES = {
    400: "That cannot be shown",
    404: "Not found",
    503: "A service does not answer",
    504: "That took too long",
}


def build_app(backends: Backends, gate: TokenGate, *, stopping: asyncio.Event, address: str) -> Starlette:
    """The application; `address` is where it will listen.

    Where nobody is asked for a token, only requests for this machine's own
    names are answered, so that no foreign page can read it through the browser.
    """
    pages, api = Pages(backends), Api(backends, stopping=stopping)
    models = ModelPages(backends, pages)
    artifacts = ArtifactPages(backends, pages)
    errors = _Errors(pages)
    local = gate.open and is_loopback(address)
    hosts = ["localhost", "127.0.0.1", "::1", "[::1]"] if local else ["*"]
    sign_in = SignIn(pages, gate)
    return Starlette(
        routes=[
            Route("/", pages.runs),
            Route("/runs/{id}", pages.run),
            Route("/compare", pages.compare),
            Route("/leaderboard", pages.leaderboard),
            Route("/evaluations/{id}", pages.evaluation),
            Route("/models", models.models),
            Route("/models/{id}", models.model),
            Route("/models/{id}/versions/{version}", models.version),
            Route("/artifacts/{id}", artifacts.artifact),
            Route("/artifacts/{id}/files/{path:path}", artifacts.download),
            Route("/artifacts/{id}/images/{path:path}", artifacts.image),
            Route("/sign-in", sign_in.form, methods=["GET"]),
            Route("/sign-in", sign_in.submit, methods=["POST"]),
            Route("/api/status", api.status),
            Route("/api/curves", api.curves),
            Route("/api/compare", api.comparison),
            Route("/api/leaderboard", api.leaderboard),
            Route("/api/runs/{id}", api.run),
            Route("/api/runs/{id}/watch", api.watch),
            Route("/api/evaluations/{id}/items", api.evaluation_items),
            Route(plotly_path(), plotly_script),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[
            Middleware(HeadersMiddleware),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
            Middleware(AccessMiddleware, gate=gate),
        ],
        exception_handlers={
            ApiError: errors.api_error,
            grpc.aio.AioRpcError: errors.rpc_error,
            HTTPException: errors.http_error,
        },
    )


class _Errors:
    """Answers errors with a page, or with a JSON status under `/api/`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def api_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        code = _HTTP.get(error.code, 500)
        if request.url.path.startswith("/api/"):
            return JSONResponse(MessageToDict(to_status(error)), status_code=code)
        return self._page(code, error.message)

    async def rpc_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, grpc.aio.AioRpcError)
        own = own_error(error, "registry", request.url.path)
        if own is not None:
            return await self.api_error(request, own)
        status = status_of(error)
        code = _HTTP.get(code_of(status), 500)
        if request.url.path.startswith("/api/"):
            return JSONResponse(MessageToDict(status), status_code=code)
        return self._page(code, status.message)

    async def http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return self._page(error.status_code, f"There is no page `{request.url.path[:200]}`.")

    def _page(self, code: int, message: str) -> Response:
        title = _TITLES.get(code, "Something went wrong")
        return self._pages.page("message.html", status_code=code, title=title, message=message)
