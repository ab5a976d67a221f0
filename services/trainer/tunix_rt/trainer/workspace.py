"""Fills the directory of an attempt with everything that its child reads."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tunix_rt.blobs.blobs import Blobs, fetch_file
from tunix_rt.jobs.directory import JobDirectory, write_json
from tunix_rt.jobs.files import fetch_files
from tunix_rt.jobs.models import cached_model, resolve_subject
from tunix_rt.jobs.remote import CALL_SECONDS, answer, in_store, persist
from tunix_rt.jobs.worker import ClaimedJob
from tunix_rt.rpc.errors import FailedPrecondition, Reason
from tunix_rt.rpc.names import resource_id
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.trainer.recorded import best_step, recorded_checkpoints
from tunix_rt.trainer.row_store import RowStore
from tunix_rt.trainer.rows.problems import refusal
from tunix_rt.trainer.rows.row_file import read_rows
from tunix_rt.trainer.spec import complete
from tunix_rt.v1 import registry_service_pb2
from tunix_rt.v1.artifact_pb2 import Artifact
from tunix_rt.v1.run_pb2 import RunSpec

ROWS = "rows"
_LONG_INTEGERS = frozenset({FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64})


class Workspace:
    """The folder `{work}` in which attempts live, as `runs/{run}/{attempt}`, beside a cache of models."""

    def __init__(self, registry: Any, blobs: Blobs, work: Path) -> None:
        self._registry = registry
        self._blobs = blobs
        self._work = work.absolute()
        self._rows = RowStore(registry, self._opened, work)

    def directory(self, claimed: ClaimedJob) -> JobDirectory:
        """The directory of an attempt."""
        return JobDirectory(self._run(claimed) / str(claimed.attempt))

    async def _opened(self) -> Blobs:
        return self._blobs

    async def prepare(self, claimed: ClaimedJob) -> None:
        """Makes the directory anew, with the newest recorded checkpoint of the run.

        Waits for as long as the registry or the object store are away.
        """
        directory, spec = self.directory(claimed), claimed.job.run
        await asyncio.to_thread(shutil.rmtree, directory.root, ignore_errors=True)
        directory.checkpoints.mkdir(parents=True)
        write_json(directory.spec, spec_json(spec))
        subject = await self._patiently(claimed, lambda: resolve_subject(self._registry, spec.model))
        base = await self._patiently(claimed, lambda: cached_model(self._blobs, subject, self._work))
        directory.base.symlink_to(base, target_is_directory=True)
        await self._patiently(claimed, lambda: self._provide_rows(claimed.name, spec, directory.rows))
        await self._fetch_checkpoint(claimed, directory)

    async def remove(self, claimed: ClaimedJob, *, all_attempts: bool) -> None:
        """Removes the directory of an attempt, or those of all attempts of its run."""
        run, attempt = self._run(claimed), self.directory(claimed).root
        await asyncio.to_thread(shutil.rmtree, run if all_attempts else attempt, ignore_errors=True)
        if run.is_dir() and not any(run.iterdir()):
            run.rmdir()

    def _run(self, claimed: ClaimedJob) -> Path:
        return self._work / "runs" / resource_id(claimed.name)

    async def _patiently(self, claimed: ClaimedJob, call: Callable[[], Any]) -> Any:
        return await persist(call, "preparation", until=claimed.lease_lost)

    async def _provide_rows(self, run: str, spec: RunSpec, path: Path) -> None:
        """The rows that the run began with; those of its spec, if no attempt has recorded them yet."""
        request = registry_service_pb2.ListArtifactsRequest(owner=run, kind=ROWS, page_size=1)
        page = await answer(self._registry.ListArtifacts(request, timeout=CALL_SECONDS))
        if page.artifacts:
            await in_store(fetch_file, self._blobs, page.artifacts[0].files[0].sha256, path)
            return
        rendered = await self._rows.rows(complete(spec))
        await asyncio.to_thread(shutil.copyfile, rendered, path)
        if message := refusal(read_rows(path).problems):
            raise FailedPrecondition(Reason.ROWS_INVALID, message, {"resource": run})

    async def _fetch_checkpoint(self, claimed: ClaimedJob, directory: JobDirectory) -> None:
        """Fetches the newest checkpoint whose bytes are whole, and the best one that it knows of.

        One that is damaged stays recorded until a newer one is; the run's log tells of it.
        """
        recorded = await self._patiently(claimed, lambda: recorded_checkpoints(self._registry, claimed.name))
        by_step = {artifact.step: artifact for artifact in recorded.current}
        for artifact in reversed(recorded.current):
            try:
                folder = await self._fetch_artifact(claimed, directory, artifact)
                best = best_step(folder)
                if best is not None and best in by_step:
                    await self._fetch_artifact(claimed, directory, by_step[best])
            except (FailedPrecondition, FileNotFoundError) as error:
                await asyncio.to_thread(directory.remove_checkpoint, artifact.step)
                get_logger().warning("checkpoint damaged", step=artifact.step, error=str(error))
                with directory.log.open("a", encoding="utf-8") as log:
                    log.write(f"checkpoint {artifact.step} is damaged and not used: {error}\n")
                continue
            claimed.progress = max(claimed.progress, artifact.step)
            return

    async def _fetch_artifact(self, claimed: ClaimedJob, directory: JobDirectory, artifact: Artifact) -> Path:
        target = directory.checkpoint(artifact.step)
        fetched: Path = await self._patiently(
            claimed, lambda: fetch_files(self._blobs, artifact.files, target)
        )
        return fetched


def spec_json(spec: RunSpec) -> dict[str, Any]:
    """The JSON form of a spec with the proto's field names, and 64-bit integers as numbers."""
    value = json_format.MessageToDict(spec, preserving_proto_field_name=True)
    _numbers(spec, value)
    return value


def _numbers(message: Message, value: dict[str, Any]) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.name not in value:
            continue
        content = value[field.name]
        if field.cpp_type in _LONG_INTEGERS:
            value[field.name] = [int(each) for each in content] if isinstance(content, list) else int(content)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            inner = getattr(message, field.name)
            pairs = zip(inner, content, strict=True) if isinstance(content, list) else [(inner, content)]
            for part, part_value in pairs:
                _numbers(part, part_value)
