"""Checkpoints that one process removes while another reads them."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

from tunix_rt.blobs.blobs import store_file
from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.trainer.recorder import hold_checkpoint
from tunix_rt.v1 import job_service_pb2
from tunix_rt.v1.artifact_pb2 import Artifact, File
from tunix_rt.v1.run_pb2 import RunSpec

FILES = {"manifest.json", "optimizer.safetensors", "state.json", "trained.safetensors"}


def write_checkpoint(directory: JobDirectory, step: int) -> None:
    folder = directory.checkpoint(step)
    partial = folder.with_name(f".{folder.name}")
    partial.mkdir(parents=True)
    for name in FILES:
        (partial / name).write_text(name)
    partial.rename(folder)


def test_what_is_held_is_whole_or_nothing(tmp_path: Path) -> None:
    directory, held, stop = JobDirectory(tmp_path), tmp_path / "held", threading.Event()
    moments = random.Random(0)

    def replace() -> None:
        while not stop.is_set():
            write_checkpoint(directory, 2)
            stop.wait(moments.uniform(0, 2e-3))
            directory.remove_checkpoint(2)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        whole = [
            {path.name for path in held.iterdir()}
            for _ in range(1000)
            if hold_checkpoint(directory.checkpoint(2), held)
        ]
    finally:
        stop.set()
        writer.join()
    assert whole
    assert all(names == FILES for names in whole)


def test_a_checkpoint_that_is_removed_twice_is_no_error(tmp_path: Path) -> None:
    directory = JobDirectory(tmp_path)
    write_checkpoint(directory, 2)
    directory.remove_checkpoint(2)
    directory.remove_checkpoint(2)
    assert list(directory.checkpoints.iterdir()) == []


async def test_a_recorded_checkpoint_without_its_state_is_passed_over(
    bench: Any, spec: RunSpec, tmp_path: Path
) -> None:
    name = await bench.queue(spec)
    claim = job_service_pb2.ClaimJobRequest(kind="run", worker="host-run-0")
    attempt = (await bench.registry.jobs.ClaimJob(claim)).job.status.attempt
    (tmp_path / "trained.safetensors").write_text("trained")
    blob = store_file(bench.registry.blobs, tmp_path / "trained.safetensors")
    file = File(path="trained.safetensors", sha256=blob.sha256, size_bytes=blob.size_bytes)
    request = job_service_pb2.RecordArtifactRequest(
        name=name, attempt=attempt, artifact=Artifact(kind="checkpoint", step=4, files=[file])
    )
    await bench.registry.jobs.RecordArtifact(request)
    run = await bench.run_until(name)
    assert run.status.attempt == 2
    assert (await bench.log(name))[-2:] == ["from step 1", "done"]
