"""Serves style sheet, scripts and Plotly's JavaScript from the installed packages."""

from __future__ import annotations

import asyncio
import functools
import gzip
from importlib.metadata import version
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

_FOR_EVER = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}


def plotly_path() -> str:
    """The path of Plotly's JavaScript; it changes with the version, so it is cached for ever."""
    return f"/assets/plotly-{version('plotly')}.min.js"


async def plotly_script(request: Request) -> Response:
    """Plotly's JavaScript, compressed where the browser takes it."""
    if "gzip" in request.headers.get("accept-encoding", ""):
        body = await asyncio.to_thread(_compressed)
        headers = {**_FOR_EVER, "content-encoding": "gzip"}
    else:
        body, headers = _plain(), _FOR_EVER
    return Response(body, media_type="text/javascript", headers=headers)


@functools.cache
def _plain() -> bytes:
    return (files("plotly") / "package_data" / "plotly.min.js").read_bytes()


@functools.cache
def _compressed() -> bytes:
    return gzip.compress(_plain(), compresslevel=6, mtime=0)
