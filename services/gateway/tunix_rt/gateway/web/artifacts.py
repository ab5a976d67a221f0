"""The artifacts of a run in the browser: lists, previews, downloads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tunix_rt.gateway.backends import Backends
from tunix_rt.gateway.web.pages import Pages
from tunix_rt.gateway.web.preview import HEAD_BYTES, IMAGE_BYTES, is_png, preview
from tunix_rt.gateway.web.reads import CALL_SECONDS
from tunix_rt.rpc import names
from tunix_rt.rpc.errors import InvalidArgument, NotFound
from tunix_rt.v1 import artifact_pb2
from tunix_rt.v1 import registry_service_pb2 as pb2

DOWNLOAD_SECONDS = 24 * 3600.0
_SAFETENSORS_BYTES = 2 * 1024 * 1024
_UNTRUSTED = {"content-security-policy": "default-src 'none'; sandbox", "cache-control": "private, no-store"}


class ArtifactPages:
    """The handlers under `/artifacts/`. Nothing that a file holds is ever sent as a page or a script."""

    def __init__(self, backends: Backends, pages: Pages) -> None:
        self._registry: Any = backends.registry
        self._pages = pages

    async def artifact(self, request: Request) -> Response:
        """The files of an artifact, and with `file` the preview of one."""
        artifact = await self._artifact(request)
        path = request.query_params.get("file", artifact.files[0].path if len(artifact.files) == 1 else "")
        shown = _file(artifact, path) if path else None
        seen = None
        if shown is not None:
            limit = _SAFETENSORS_BYTES if shown.path.endswith(".safetensors") else HEAD_BYTES
            seen = preview(shown.path, shown.size_bytes, await self._head(shown.sha256, limit))
        return self._pages.page("artifact.html", artifact=artifact, shown=shown, seen=seen)

    async def download(self, request: Request) -> Response:
        """The bytes of a file, to be saved and never to be shown."""
        file = _file(await self._artifact(request), request.path_params["path"])
        chunks = aiter(
            self._registry.ReadBlob(pb2.ReadBlobRequest(sha256=file.sha256), timeout=DOWNLOAD_SECONDS)
        )
        first = await anext(chunks, None)  # an error of the store is told before the answer begins
        name = quote(PurePosixPath(file.path).name)
        headers = {
            **_UNTRUSTED,
            "content-length": str(file.size_bytes),
            "content-disposition": f"attachment; filename*=UTF-8''{name}",
        }

        async def body() -> AsyncIterator[bytes]:
            if first is not None:
                yield first.data
            async for chunk in chunks:
                yield chunk.data

        return StreamingResponse(body(), media_type="application/octet-stream", headers=headers)

    async def image(self, request: Request) -> Response:
        """A PNG image, if the bytes are one and not too many."""
        file = _file(await self._artifact(request), request.path_params["path"])
        if file.size_bytes > IMAGE_BYTES or not is_png(data := await self._head(file.sha256, IMAGE_BYTES)):
            raise InvalidArgument.of(
                "path", f"is `{file.path[:200]}`, which is no PNG image that can be shown."
            )
        return Response(data, media_type="image/png", headers=_UNTRUSTED)

    async def _artifact(self, request: Request) -> artifact_pb2.Artifact:
        name = names.require(f"artifacts/{request.path_params['id']}", names.ARTIFACT, "name")
        found: artifact_pb2.Artifact = await self._registry.GetArtifact(
            pb2.GetArtifactRequest(name=name), timeout=CALL_SECONDS
        )
        return found

    async def _head(self, sha256: str, limit: int) -> bytes:
        """The first bytes of a file."""
        call = self._registry.ReadBlob(pb2.ReadBlobRequest(sha256=sha256), timeout=CALL_SECONDS)
        head = bytearray()
        try:
            async for chunk in call:
                head += chunk.data
                if len(head) >= limit:
                    break
        finally:
            call.cancel()
        return bytes(head[:limit])


def _file(artifact: artifact_pb2.Artifact, path: str) -> artifact_pb2.File:
    for file in artifact.files:
        if file.path == path:
            return file
    raise NotFound(f"{artifact.name}/{path[:200]}", "The artifact's page lists its files.")
