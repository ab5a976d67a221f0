"""A supervised run: what is stored of it, and how it survives crashes, outages, cancellation and shutdown."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tunix_rt.jobs.directory import JobDirectory, metric_line
from tunix_rt.jobs.outbox import Shipped
from tunix_rt.jobs.worker import ClaimedJob
from tunix_rt.rpc.status import reason_of
from tunix_rt.trainer.recorder import Recorder
from tunix_rt.v1 import job_service_pb2, registry_service_pb2
from tunix_rt.v1.job_pb2 import JobState
from tunix_rt.v1.run_pb2 import RunSpec

STEPS = list(range(1, 7))


def children_of(work: Path) -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if any(str(work) in argument for argument in child.cmdline()) and child.status() != "zombie":
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


async def exit_of(process: psutil.Process) -> None:
    """Waits for the end of a process without taking its status from its parent."""
    handle, ended = os.pidfd_open(process.pid), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(20):
            await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def test_a_run_leaves_its_metrics_log_checkpoints_facts_and_weights(bench: Any, spec: RunSpec) -> None:
    name = await bench.queue(spec)
    run = await bench.run_until(name)
    assert run.status.attempt == 1
    assert (run.status.progress, run.status.progress_total) == (6, 6)
    assert run.facts["traces"] == 32  # of the training split
    assert await bench.points(name) == [(1, step) for step in STEPS]
    assert await bench.log(name) == ["from step 1", "done"]
    assert await bench.checkpoints(name) == [(1, 6)]
    request = registry_service_pb2.GetArtifactRequest(name=run.model_artifact)
    model = await bench.registry.stub.GetArtifact(request)
    assert [file.path for file in model.files] == [
        "README.md",
        "config.json",
        "model.safetensors",
        "provenance.json",
        "steps.txt",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert run.weights_digest == model.digest
    assert list((bench.work / "runs").iterdir()) == []
    assert len(list((bench.work / "models").iterdir())) == 1


async def test_samples_and_the_profile_are_stored(bench: Any, spec: RunSpec) -> None:
    name = await bench.queue(spec, "sample")
    await bench.run_until(name)
    assert await bench.artifacts(name, "samples") == STEPS
    assert await bench.artifacts(name, "profile") == [0]


async def test_a_crashed_child_is_tried_again_from_its_last_checkpoint(bench: Any, spec: RunSpec) -> None:
    name = await bench.queue(spec, "crash once")
    run = await bench.run_until(name)
    assert run.status.attempt == 2
    assert await bench.points(name) == [(1, 1), (1, 2), (1, 3), (2, 3), (2, 4), (2, 5), (2, 6)]
    assert await bench.curve(name) == STEPS
    log = await bench.log(name)
    assert "about to crash" in log
    assert log[-2:] == ["from step 3", "done"]


async def test_a_failure_that_the_child_explains_ends_the_run(bench: Any, spec: RunSpec) -> None:
    name = await bench.queue(spec, "fail")
    run = await bench.run_until(name, JobState.JOB_STATE_FAILED)
    assert reason_of(run.status.error) == "NON_FINITE_LOSS"
    assert run.status.error.message == "The loss is nan."
    assert run.status.attempt == 1
    kept = bench.work / "runs" / name.split("/")[1] / "1" / "outcome.json"
    assert kept.exists()


async def test_a_cancelled_run_saves_and_stops(bench: Any, spec: RunSpec) -> None:
    name, gate = await bench.queue(spec), bench.gate(3)
    working = asyncio.ensure_future(bench.run_until(name, JobState.JOB_STATE_CANCELLED))
    await gate.reached()
    request = job_service_pb2.RequestCancellationRequest(name=name)
    await bench.registry.jobs.RequestCancellation(request)
    await working
    assert await bench.points(name) == [(1, 1), (1, 2), (1, 3)]
    assert await bench.checkpoints(name) == [(1, 3)]


async def test_a_child_that_does_not_heed_is_killed(bench: Any, spec: RunSpec) -> None:
    bench.stop_seconds = 0.2
    name, gate = await bench.queue(spec, "deaf"), bench.gate(3)
    working = asyncio.ensure_future(bench.run_until(name, JobState.JOB_STATE_CANCELLED))
    await gate.reached()
    request = job_service_pb2.RequestCancellationRequest(name=name)
    await bench.registry.jobs.RequestCancellation(request)
    await working
    assert children_of(bench.work) == []


async def test_a_shutdown_gives_the_run_back_and_the_next_worker_goes_on(bench: Any, spec: RunSpec) -> None:
    name, gate = await bench.queue(spec), bench.gate(3)
    working = asyncio.ensure_future(bench.worker().run(bench.stop))
    await gate.reached()
    bench.stop.set()
    await working
    run = await bench.run(name)
    assert run.status.state == JobState.JOB_STATE_QUEUED
    assert await bench.checkpoints(name) == [(1, 3)]
    bench.stop = asyncio.Event()
    await bench.run_until(name)
    assert await bench.points(name) == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)]
    assert await bench.curve(name) == STEPS


async def test_a_shutdown_while_the_registry_is_away_ends_and_loses_nothing(
    bench: Any, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunix_rt.trainer.supervisor._DRAIN_SECONDS", 0.5)
    monkeypatch.setattr("tunix_rt.jobs.worker._SHUTDOWN_SECONDS", 0.5)
    bench.stop_seconds = 0.5
    name, gate = await bench.queue(spec), bench.gate(3)
    working = asyncio.ensure_future(bench.worker().run(bench.stop))
    await gate.reached()
    await bench.registry.stop()
    bench.stop.set()
    async with asyncio.timeout(20):
        await working
    assert children_of(bench.work) == []
    await bench.registry.start()
    bench.stop = asyncio.Event()
    await bench.run_until(name)
    assert await bench.curve(name) == STEPS


async def test_an_outage_of_the_registry_stops_nothing_and_loses_nothing(bench: Any, spec: RunSpec) -> None:
    name, before, after = await bench.queue(spec), bench.gate(2), bench.gate(5)
    working = asyncio.ensure_future(bench.worker().run(bench.stop))
    await before.reached()
    await bench.registry.stop()
    await before.open()
    await after.reached()  # it has trained on
    await after.open()
    await bench.registry.start()
    run = await bench.wait_for(name, JobState.JOB_STATE_SUCCEEDED)
    bench.stop.set()
    await working
    assert run.status.attempt == 1
    assert await bench.points(name) == [(1, step) for step in STEPS]
    assert await bench.log(name) == ["from step 1", "done"]
    assert await bench.checkpoints(name) == [(1, 6)]


async def test_a_checkpoint_is_recorded_after_the_metrics_up_to_it(
    bench: Any, spec: RunSpec, tmp_path: Path
) -> None:
    name = await bench.queue(spec)
    claim = job_service_pb2.ClaimJobRequest(kind="run", worker="w")
    claimed = ClaimedJob((await bench.registry.jobs.ClaimJob(claim)).job, asyncio.Event())
    directory, shipped, ended = JobDirectory(tmp_path / "job"), Shipped(), asyncio.Event()
    directory.checkpoints.mkdir(parents=True)
    recorder = Recorder(bench.registry.stub, bench.registry.jobs, bench.registry.blobs)
    recording = asyncio.ensure_future(recorder.ship_checkpoints(claimed, directory, shipped, ended))
    await asyncio.sleep(0)
    directory.metrics.write_text(metric_line(2, 0, {"train/loss": 1}))
    directory.checkpoint(2).mkdir()
    (directory.checkpoint(2) / "state.json").write_text("{}")
    ended.set()
    done, _ = await asyncio.wait({recording}, timeout=0.3)
    assert not done
    assert await bench.checkpoints(name) == []
    shipped.advance(directory.metrics.stat().st_size)
    await recording
    assert await bench.checkpoints(name) == [(1, 2)]


async def test_a_lost_lease_kills_the_child_and_finishes_nothing(bench: Any, spec: RunSpec) -> None:
    name, gate = await bench.queue(spec), bench.gate(3)
    working = asyncio.ensure_future(bench.run_until(name))
    await gate.reached()
    (child,) = children_of(bench.work)
    ended = asyncio.ensure_future(exit_of(child))
    claim = job_service_pb2.ClaimJobRequest(kind="run", worker="host-run-0")
    taken = (await bench.registry.jobs.ClaimJob(claim)).job
    assert (taken.name, taken.status.attempt) == (name, 2)
    await ended
    run = await working  # the worker claims again, and is given its own job
    assert run.status.attempt == 3
    assert await bench.curve(name) == STEPS


async def test_a_killed_child_is_a_crash(bench: Any, spec: RunSpec) -> None:
    name, gate = await bench.queue(spec), bench.gate(3)
    working = asyncio.ensure_future(bench.run_until(name))
    await gate.reached()
    (child,) = children_of(bench.work)
    os.kill(child.pid, signal.SIGKILL)
    run = await working
    assert run.status.attempt == 2
    assert await bench.curve(name) == STEPS


async def test_missing_bytes_fail_the_run_with_what_is_missing(bench: Any, spec: RunSpec) -> None:
    request = registry_service_pb2.GetDatasetRequest(name=spec.dataset)
    sha256 = (await bench.registry.stub.GetDataset(request)).sha256
    next(Path(bench.registry.blobs_url.removeprefix("file://")).rglob(sha256)).unlink()
    name = await bench.queue(spec)
    run = await bench.run_until(name, JobState.JOB_STATE_FAILED)
    assert reason_of(run.status.error) == "BLOB_MISSING"
    assert sha256 in run.status.error.message
