"""Uploads what a child leaves and records it: upload first, record second."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

from tunix_rt.blobs.blobs import Blobs, store_file
from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.jobs.files import store_files
from tunix_rt.jobs.outbox import Shipped
from tunix_rt.jobs.remote import CALL_SECONDS, answer, in_store, persist, wait_for_event
from tunix_rt.jobs.tail import whole_lines_bytes
from tunix_rt.jobs.worker import ClaimedJob
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.trainer.workspace import CHECKPOINT, ROWS
from tunix_rt.v1 import job_service_pb2 as pb
from tunix_rt.v1.artifact_pb2 import Artifact, File

_POLL_SECONDS = 0.5


class Recorder:
    """Stores checkpoints and final weights; repeats while the registry or the object store are away."""

    def __init__(self, jobs: Any, blobs: Blobs) -> None:
        self._jobs = jobs
        self._blobs = blobs

    async def ship_checkpoints(
        self, claimed: ClaimedJob, directory: JobDirectory, shipped: Shipped, ended: asyncio.Event
    ) -> None:
        """Records every checkpoint that the child completes, until it has ended.

        A checkpoint is recorded after the metrics up to it are stored: an attempt
        that resumes from it would never measure them again. Recorded checkpoints
        but the newest are removed from the directory.
        """
        recorded = {step for step, _ in directory.complete_checkpoints()}
        while True:
            finished = ended.is_set()
            for step, folder in directory.complete_checkpoints():
                if step not in recorded:
                    await shipped.reaches(whole_lines_bytes(directory.metrics))
                    await self._record(claimed, CHECKPOINT, folder, step=step)
                    recorded.add(step)
                    await _remove_older(directory, recorded)
            if finished:
                return
            await wait_for_event(ended, _POLL_SECONDS)

    async def record_model(self, claimed: ClaimedJob, directory: JobDirectory) -> pb.FinishJobRequest:
        """Records the final weights and returns the outcome that names them."""
        artifact = await self._record(claimed, "model", directory.model, step=0)
        return pb.FinishJobRequest(run=pb.RunOutcome(model_artifact=artifact.name))

    async def record_rows(self, claimed: ClaimedJob, directory: JobDirectory) -> None:
        """Records the rows that the run trains on; they are the same in every attempt."""
        lost, path = claimed.lease_lost, directory.rows
        blob = await persist(lambda: in_store(store_file, self._blobs, path), "upload", until=lost)
        file = File(path=path.name, sha256=blob.sha256, size_bytes=blob.size_bytes)
        request = pb.RecordArtifactRequest(
            name=claimed.name, attempt=claimed.attempt, artifact=Artifact(kind=ROWS, files=[file])
        )
        await persist(
            lambda: answer(self._jobs.RecordArtifact(request, timeout=CALL_SECONDS)),
            "RecordArtifact",
            until=lost,
        )

    async def _record(self, claimed: ClaimedJob, kind: str, folder: Path, *, step: int) -> Artifact:
        lost = claimed.lease_lost
        files = await persist(lambda: store_files(self._blobs, folder), "upload", until=lost)
        request = pb.RecordArtifactRequest(
            name=claimed.name,
            attempt=claimed.attempt,
            artifact=Artifact(kind=kind, step=step, files=files),
        )
        artifact: Artifact = await persist(
            lambda: answer(self._jobs.RecordArtifact(request, timeout=CALL_SECONDS)),
            "RecordArtifact",
            until=lost,
        )
        get_logger().info("recorded", kind=kind, step=step, artifact=artifact.name)
        return artifact


async def _remove_older(directory: JobDirectory, recorded: set[int]) -> None:
    for step, folder in directory.complete_checkpoints():
        if step in recorded and step < max(recorded):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
