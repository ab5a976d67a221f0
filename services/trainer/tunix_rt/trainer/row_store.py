"""Renders the rows of runs on the side of the server, once a host, and keeps the newest."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from tunix_rt.blobs.blobs import Blobs, fetch_file
from tunix_rt.blobs.manifest import manifest_digest
from tunix_rt.jobs.files import fetch_files
from tunix_rt.jobs.remote import CALL_SECONDS, answer, in_store
from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.rpc.errors import FailedPrecondition, Reason
from tunix_rt.traces.jsonl import read_canonical
from tunix_rt.traces.trace import Trace, TraceError
from tunix_rt.trainer.rows.recipe import Recipe, Source
from tunix_rt.trainer.rows.rendering import render_rows
from tunix_rt.trainer.rows.row_file import rows_bytes
from tunix_rt.v1 import registry_service_pb2
from tunix_rt.v1.artifact_pb2 import File
from tunix_rt.v1.run_pb2 import RunSpec

TOKENIZER_FILES = frozenset(
    {
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
    }
)
_KEPT = 20

Parts = list[list[Trace]]


class RowStore:
    """The folder `{work}/rows`, with the rows of a recipe under its key."""

    def __init__(self, registry: Any, blobs: Callable[[], Awaitable[Blobs]], work: Path) -> None:
        self._registry = registry
        self._blobs = blobs
        self._work = work.absolute()

    async def rows(self, spec: RunSpec) -> Path:
        """The file with the rows of a complete spec, whatever their problems; rendered if need be.

        Raises NotFound, Unavailable, and FailedPrecondition, reason MODEL_INVALID or TRACES_INVALID, for a
        tokenizer or a dataset that cannot be read.
        """
        recipe = await self._recipe(spec)
        path = self._work / "rows" / f"{recipe.key}.safetensors"
        if path.exists():
            os.utime(path)
            return path
        traces = await self._traces(recipe)
        tokenizer = await self.tokenizer(spec)
        await asyncio.to_thread(_render, recipe, tokenizer, traces, path)
        return path

    async def tokenizer(self, spec: RunSpec) -> Tokenizer:
        """The tokenizer of the spec's model."""
        directory = await self.tokenizer_directory(spec)
        try:
            return await asyncio.to_thread(Tokenizer.load, directory)
        except ModelError as error:
            raise model_invalid(spec, error) from error

    async def tokenizer_directory(self, spec: RunSpec) -> Path:
        """The directory with config and tokenizer of the spec's model, fetched if need be; no weights."""
        files = await self._tokenizer_files(spec)
        folder = self._work / "tokenizers" / _digest(files)
        return await fetch_files(await self._blobs(), files, folder)

    async def _recipe(self, spec: RunSpec) -> Recipe:
        validates = not spec.HasField("validate_every") or spec.validate_every > 0
        sources = [await self._source(spec.dataset, spec.train_split)]
        sources += [await self._source(part.dataset, part.split) for part in spec.mixture]
        own = sources[0]
        return Recipe(
            train=tuple(sources),
            validation=Source(own.dataset, own.sha256, spec.validation_split) if validates else None,
            tokenizer=_digest(await self._tokenizer_files(spec)),
            format=spec.format,
            system_prompt=spec.system_prompt,
            max_length=spec.max_length,
            overlong=RunSpec.Overlong.Name(spec.overlong),
        )

    async def _source(self, name: str, split: str) -> Source:
        request = registry_service_pb2.GetDatasetRequest(name=name)
        dataset = await answer(self._registry.GetDataset(request, timeout=CALL_SECONDS))
        return Source(name, dataset.sha256, split)

    async def _tokenizer_files(self, spec: RunSpec) -> list[File]:
        request = registry_service_pb2.GetModelVersionRequest(name=spec.model)
        version = await answer(self._registry.GetModelVersion(request, timeout=CALL_SECONDS))
        return [file for file in version.files if file.path in TOKENIZER_FILES]

    async def _traces(self, recipe: Recipe) -> tuple[Parts, list[Trace]]:
        """The traces of each training part, and those for validation."""
        folder = self._work / "rows" / f".traces.{secrets.token_hex(4)}"
        blobs = await self._blobs()
        try:
            for digest in {source.sha256 for source in recipe.train}:
                await in_store(fetch_file, blobs, digest, folder / digest)
            return await asyncio.to_thread(_read_parts, folder, recipe)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def model_invalid(spec: RunSpec, error: ModelError) -> FailedPrecondition:
    """The error for a model whose tokenizer or config cannot be used."""
    return FailedPrecondition(
        Reason.MODEL_INVALID, f"Model `{spec.model}`: {error}", {"resource": spec.model}
    )


def _digest(files: Sequence[File]) -> str:
    return manifest_digest((file.path, file.sha256) for file in files)


def _read_parts(folder: Path, recipe: Recipe) -> tuple[Parts, list[Trace]]:
    """The traces of the recipe's splits from files named by the datasets' digests."""
    splits: dict[tuple[str, str], list[Trace]] = {}
    for source in {source.sha256: source for source in recipe.train}.values():
        try:
            with (folder / source.sha256).open("rb") as lines:
                for trace, split in read_canonical(lines):
                    splits.setdefault((source.sha256, split), []).append(trace)
        except TraceError as error:
            message = f"Dataset `{source.dataset}` cannot be read: {error}"
            raise FailedPrecondition(Reason.TRACES_INVALID, message, {"resource": source.dataset}) from error
    train = [splits.get((source.sha256, source.split), []) for source in recipe.train]
    held_out = recipe.validation
    return train, splits.get((held_out.sha256, held_out.split), []) if held_out else []


def _render(recipe: Recipe, tokenizer: Tokenizer, traces: tuple[Parts, list[Trace]], path: Path) -> None:
    """Writes the rows of a recipe, whole or not at all, and removes the oldest files."""
    train, validation = traces
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        partial.write_bytes(rows_bytes(render_rows(recipe, tokenizer, train, validation)))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    kept = sorted(path.parent.glob("*.safetensors"), key=lambda each: each.stat().st_mtime, reverse=True)
    for old in kept[_KEPT:]:
        old.unlink(missing_ok=True)
