"""Uploads what a child leaves and records it: upload first, record second."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tunix_rt.blobs.blobs import Blobs, store_file
from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.jobs.files import store_files
from tunix_rt.jobs.outbox import Shipped
from tunix_rt.jobs.remote import CALL_SECONDS, answer, in_store, persist, wait_for_event
from tunix_rt.jobs.tail import whole_lines_bytes
from tunix_rt.jobs.worker import ClaimedJob
from tunix_rt.rpc.errors import FailedPrecondition, Reason
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.trainer.recorded import CHECKPOINT, best_step, recorded_checkpoints, retention_of
from tunix_rt.trainer.workspace import ROWS
from tunix_rt.v1 import job_service_pb2 as pb
from tunix_rt.v1.artifact_pb2 import Artifact, File

_POLL_SECONDS = 0.5
_UPLOADS = 5


class Recorder:
    """Stores checkpoints and final weights; repeats while the registry or the object store are away."""

    def __init__(self, registry: Any, jobs: Any, blobs: Blobs) -> None:
        self._registry = registry
        self._jobs = jobs
        self._blobs = blobs

    async def ship_checkpoints(
        self, claimed: ClaimedJob, directory: JobDirectory, shipped: Shipped, ended: asyncio.Event
    ) -> None:
        """Records every checkpoint that the child completes and has not removed again, until it has ended.

        A checkpoint is recorded after the metrics and samples up to it are stored: an
        attempt that resumes from it would never make them again. What is no longer kept
        is removed from the registry and from the directory after that.
        """
        recorded = {step for step, _ in directory.complete_checkpoints()}
        resumed_from = max(recorded, default=0)
        attached: set[Path] = set()
        while True:
            finished = ended.is_set()
            for step, _ in directory.complete_checkpoints():
                if step not in recorded:
                    await self._attach(claimed, directory, attached)
                    await shipped.reaches(whole_lines_bytes(directory.metrics))
                    if await self._ship_checkpoint(claimed, directory, step, resumed_from=resumed_from):
                        recorded.add(step)
                        await _remove_older(directory, recorded)
            await self._attach(claimed, directory, attached)
            if finished:
                return
            await wait_for_event(ended, _POLL_SECONDS)

    async def _attach(self, claimed: ClaimedJob, directory: JobDirectory, attached: set[Path]) -> None:
        """Records the samples and the profile that are complete and not among those attached."""
        found = [
            ("samples", int(file.parent.name), file.parent)
            for file in directory.samples.glob("*/samples.jsonl")
        ]
        if directory.profile.is_dir():
            found.append(("profile", 0, directory.profile))
        for kind, step, folder in sorted(found):
            if folder not in attached:
                await self._record(claimed, kind, folder, step=step)
                attached.add(folder)

    async def _ship_checkpoint(
        self, claimed: ClaimedJob, directory: JobDirectory, step: int, *, resumed_from: int
    ) -> bool:
        """Whether the checkpoint was there to be recorded."""
        folder = directory.checkpoint(step)
        held = directory.root / ".shipping" / folder.name
        try:
            if not await asyncio.to_thread(hold_checkpoint, folder, held):
                return False
            await self._record(claimed, CHECKPOINT, held, step=step)
            await self._remove_recorded(claimed, best=best_step(held), resumed_from=resumed_from)
            return True
        finally:
            await asyncio.to_thread(shutil.rmtree, held, ignore_errors=True)

    async def _remove_recorded(self, claimed: ClaimedJob, *, best: int | None, resumed_from: int) -> None:
        recorded = await persist(
            lambda: recorded_checkpoints(self._registry, claimed.name),
            "ListArtifacts",
            until=claimed.lease_lost,
        )
        removable = recorded.removable(
            retention_of(claimed.job.run.retention),
            best=best,
            attempt=claimed.attempt,
            resumed_from=resumed_from,
        )
        for artifact in removable:
            await persist(
                partial(self._delete, claimed, artifact.name), "DeleteArtifact", until=claimed.lease_lost
            )
            get_logger().info("removed", kind=CHECKPOINT, step=artifact.step, artifact=artifact.name)

    async def _delete(self, claimed: ClaimedJob, artifact: str) -> None:
        request = pb.DeleteArtifactRequest(name=claimed.name, attempt=claimed.attempt, artifact=artifact)
        await answer(self._jobs.DeleteArtifact(request, timeout=CALL_SECONDS))

    async def record_model(self, claimed: ClaimedJob, directory: JobDirectory) -> pb.FinishJobRequest:
        """Records the final weights and returns the outcome that names them."""
        artifact = await self._record(claimed, "model", directory.model, step=0)
        return pb.FinishJobRequest(run=pb.RunOutcome(model_artifact=artifact.name))

    async def record_rows(self, claimed: ClaimedJob, directory: JobDirectory) -> None:
        """Records the rows that the run trains on; they are the same in every attempt."""
        path = directory.rows

        async def store() -> list[File]:
            blob = await in_store(store_file, self._blobs, path)
            return [File(path=path.name, sha256=blob.sha256, size_bytes=blob.size_bytes)]

        await persist(
            lambda: self._store_and_record(claimed, ROWS, store, 0),
            "recording of the rows",
            until=claimed.lease_lost,
        )

    async def _record(self, claimed: ClaimedJob, kind: str, folder: Path, *, step: int) -> Artifact:
        artifact: Artifact = await persist(
            lambda: self._store_and_record(claimed, kind, partial(store_files, self._blobs, folder), step),
            f"recording of a {kind}",
            until=claimed.lease_lost,
        )
        get_logger().info("recorded", kind=kind, step=step, artifact=artifact.name)
        return artifact

    async def _store_and_record(
        self, claimed: ClaimedJob, kind: str, store: Callable[[], Awaitable[Sequence[File]]], step: int
    ) -> Artifact:
        """Uploads and records; again if a deletion took the bytes before they were named."""
        for _ in range(_UPLOADS):
            files = await store()
            request = pb.RecordArtifactRequest(
                name=claimed.name,
                attempt=claimed.attempt,
                artifact=Artifact(kind=kind, step=step, files=files),
            )
            try:
                recorded: Artifact = await answer(self._jobs.RecordArtifact(request, timeout=CALL_SECONDS))
                return recorded
            except FailedPrecondition as error:
                if error.reason != Reason.BLOB_MISSING:
                    raise
                missing = error
        raise missing


def hold_checkpoint(folder: Path, held: Path) -> bool:
    """Links a checkpoint's files elsewhere, for the child may remove it at any time; False if it has.

    What still has its name after the last file was linked had all its files until then.
    """
    shutil.rmtree(held, ignore_errors=True)
    before = _inode(folder)
    try:
        shutil.copytree(folder, held, copy_function=os.link)
    except (FileNotFoundError, shutil.Error):
        if before == _inode(folder) is not None:
            raise
        return False
    return before == _inode(folder)


def _inode(folder: Path) -> int | None:
    """The number of a folder, or None if there is none of the name."""
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


async def _remove_older(directory: JobDirectory, recorded: set[int]) -> None:
    """Removes recorded checkpoints, but for the newest and the best, which the child may still need."""
    found = directory.complete_checkpoints()
    try:
        needed = {found[-1][0], best_step(found[-1][1])} if found else set()
    except FileNotFoundError:  # the child has a newer one, and has removed this one
        return
    for step, _ in found:
        if step in recorded and step not in needed:
            await asyncio.to_thread(directory.remove_checkpoint, step)
