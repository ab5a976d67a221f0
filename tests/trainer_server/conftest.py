"""The real registry on embedded PostgreSQL, a small model and dataset in it, and a fake training program."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from tunix_rt.blobs.blobs import store_file
from tunix_rt.blobs.directory import DirectoryBlobs
from tunix_rt.jobs.worker import Worker
from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.registry.server import RegistryServer
from tunix_rt.registry.settings import Settings as RegistrySettings
from tunix_rt.rpc.channel import open_channel
from tunix_rt.traces.text import INSTRUCTIONS
from tunix_rt.trainer.supervisor import Supervisor
from tunix_rt.v1 import dataset_pb2, job_service_pb2, model_pb2, registry_service_pb2
from tunix_rt.v1.artifact_pb2 import File
from tunix_rt.v1.job_pb2 import JobState
from tunix_rt.v1.job_service_pb2_grpc import JobServiceStub
from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub
from tunix_rt.v1.run_pb2 import OptimizerSpec, Run, RunSpec

DEADLINE_SECONDS = 30.0

# What a supervisor sees of a training program. `system_prompt` of the spec says how it behaves. Where
# GATES holds a pipe named after a step, it says `reached` after that step's metrics, and waits for an answer.
PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path
from tunix_rt.jobs.directory import JobDirectory, metric_line, read_json, write_json
from tunix_rt.trainer.rows.row_file import read_rows

directory = JobDirectory(Path(sys.argv[1]))
spec = read_json(directory.spec)
how = spec["system_prompt"]
stopping = waiting = False

def stop(*_):
    global stopping
    stopping = True
    if waiting:
        raise InterruptedError

signal.signal(signal.SIGTERM, signal.SIG_IGN if how == "deaf" else stop)

def gate(step):
    global waiting
    pipe = Path(os.environ["GATES"]) / f"{directory.root.name}-{step}"
    try:
        waiting = True
        if pipe.exists() and not stopping:
            pipe.write_text("reached")
            Path(f"{pipe}-answer").read_text()
    except InterruptedError:
        pass
    finally:
        waiting = False

def save(step):
    final = directory.checkpoint(step)
    if not final.exists():
        partial = final.with_name(f".{final.name}")
        partial.mkdir()
        write_json(partial / "state.json", {"step": step})
        partial.rename(final)

def sample(step):
    folder = directory.samples / f"{step:08}"
    folder.mkdir(parents=True)
    (folder / "samples.jsonl").write_text(json.dumps({"step": step}) + "\\n")
    if step == 1:
        (directory.root / "partial" / "plugins").mkdir(parents=True)
        (directory.root / "partial" / "plugins" / "host.xplane.pb").write_bytes(b"profile")
        (directory.root / "partial").rename(directory.profile)

def main():
    rows = read_rows(directory.rows)
    done = directory.complete_checkpoints()
    first = done[-1][0] + 1 if done else 1
    if done:
        assert read_json(done[-1][1] / "state.json") == {"step": first - 1}
    write_json(directory.facts, {"steps": spec["steps"], "traces": len(rows.train), "device": "none"})
    print(f"from step {first}")
    if how == "fail":
        return {"state": "failed", "reason": "NON_FINITE_LOSS", "message": "The loss is nan."}
    for step in range(first, spec["steps"] + 1):
        with directory.metrics.open("a") as file:
            file.write(metric_line(step, time.time(), {"train/loss": 1 / step, "train/tokens": step * 10}))
        if how == "sample":
            sample(step)
        gate(step)
        if how == "crash once" and step == 3 and directory.root.name == "1":
            print("about to crash")
            os.kill(os.getpid(), signal.SIGSEGV)
        if step == spec["steps"] or step % spec["checkpoint_every"] == 0 or stopping:
            save(step)
        if stopping and step < spec["steps"]:
            return {"state": "stopped", "step": step}
    directory.model.mkdir()
    for source in directory.base.iterdir():
        (directory.model / source.name).write_bytes(source.read_bytes())
    (directory.model / "steps.txt").write_text(str(spec["steps"]))
    sys.stdout.write("done")
    return {"state": "succeeded"}

outcome = main()
write_json(directory.outcome, outcome)
sys.exit(1 if outcome["state"] == "failed" else 0)
"""


@pytest.fixture
def database(make_database: Callable[[], str]) -> str:
    """An empty database of the test's own."""
    return make_database()


@dataclass
class Registry:
    """A registry that can go away and come back at its address."""

    database: str
    blobs: DirectoryBlobs
    blobs_url: str
    port: int = 0
    server: RegistryServer | None = None
    channel: grpc.aio.Channel | None = None

    async def start(self) -> None:
        settings = RegistrySettings(
            database=self.database, blobs=self.blobs_url, listen=f"127.0.0.1:{self.port}"
        )
        self.server = RegistryServer(settings)
        await self.server.start()
        self.port = self.server.port
        self.channel = self.channel or open_channel(self.address)

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop(0)
            self.server = None

    async def close(self) -> None:
        assert self.channel is not None
        await self.channel.close()
        await self.stop()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def stub(self) -> Any:
        assert self.channel is not None
        return RegistryServiceStub(self.channel)

    @property
    def jobs(self) -> Any:
        assert self.channel is not None
        return JobServiceStub(self.channel)


@pytest.fixture
async def registry(database: str, tmp_path: Path) -> AsyncIterator[Registry]:
    folder = tmp_path / "blobs"
    registry = Registry(database, DirectoryBlobs(folder), folder.as_uri())
    await registry.start()
    yield registry
    await registry.close()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "model"
    texts = [f"{INSTRUCTIONS['answer-line']} What is {n} + 1? {n} + 1 = {n + 1}" for n in range(40)]
    make_tiny_model(folder, texts, hidden_size=32, num_layers=1)
    return folder


@pytest.fixture
async def model(registry: Registry, model_folder: Path) -> str:
    """A small model with a tokenizer of its own."""
    files = []
    for path in sorted(model_folder.iterdir()):
        blob = store_file(registry.blobs, path)
        files.append(File(path=path.name, sha256=blob.sha256, size_bytes=blob.size_bytes))
    version = await registry.stub.CreateModelVersion(
        registry_service_pb2.CreateModelVersionRequest(
            parent="models/small", model_version=model_pb2.ModelVersion(files=files)
        )
    )
    return str(version.name)


async def make_dataset(registry: Registry, *, count: int = 40, seal: bool = True) -> str:
    created = await registry.stub.CreateDataset(registry_service_pb2.CreateDatasetRequest())
    request = registry_service_pb2.AppendTracesRequest(dataset=created.name)
    for number in range(count):
        step = dataset_pb2.Step(type="compute", content=f"{number} + 1 = {number + 1}")
        request.traces.add(prompt=f"What is {number} + 1?", steps=[step], final_answer=str(number + 1))
    call = registry.stub.AppendTraces()
    await call.write(request)
    await call.done_writing()
    async for _ in call:
        pass
    if seal:
        await registry.stub.SealDataset(registry_service_pb2.SealDatasetRequest(name=created.name))
    return str(created.name)


@pytest.fixture
async def dataset(registry: Registry) -> str:
    return await make_dataset(registry)


@pytest.fixture
def open_dataset(registry: Registry) -> Callable[[], Awaitable[str]]:
    return lambda: make_dataset(registry, seal=False)


@pytest.fixture
def spec(model: str, dataset: str) -> RunSpec:
    """Six steps with a checkpoint after every second one."""
    return RunSpec(
        model=model,
        dataset=dataset,
        steps=6,
        batch_size=2,
        max_length=256,
        checkpoint_every=2,
        optimizer=OptimizerSpec(learning_rate=0.01),
    )


@dataclass
class Bench:
    """A worker with the fake training program, and what tests ask about its runs."""

    registry: Registry
    work: Path
    gates: Path
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    stop_seconds: float = 10.0

    async def queue(self, spec: RunSpec, how: str = "well") -> str:
        asked = RunSpec()
        asked.CopyFrom(spec)
        asked.system_prompt = how
        job = job_service_pb2.Job(name="runs/", run=asked)
        queued = await self.registry.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
        return str(queued.name)

    def worker(self, worker_id: str = "host-run-0", lease_seconds: float = 30) -> Worker:
        supervisor = Supervisor(
            self.registry.stub,
            self.registry.jobs,
            self.registry.blobs,
            self.work,
            environment={"GATES": str(self.gates)},
            stop_seconds=self.stop_seconds,
            module="fake_training_program",
        )
        return Worker(
            self.registry.jobs,
            kind="run",
            worker_id=worker_id,
            handle=supervisor.handle,
            lease_seconds=lease_seconds,
        )

    async def run_until(self, name: str, *states: int) -> Run:
        """Works until the run is in one of the states, succeeded if none is named."""
        working = asyncio.ensure_future(self.worker().run(self.stop))
        try:
            return await self.wait_for(name, *(states or (JobState.JOB_STATE_SUCCEEDED,)))
        finally:
            self.stop.set()
            await working
            self.stop = asyncio.Event()

    async def release_at(self, gate: Gate) -> None:
        """Works until the gate is reached, and then shuts down, which gives the run back."""
        working = asyncio.ensure_future(self.worker().run(self.stop))
        await gate.reached()
        self.stop.set()
        await working
        self.stop = asyncio.Event()

    async def wait_for(self, name: str, *states: int) -> Run:
        async with asyncio.timeout(DEADLINE_SECONDS):
            token = ""
            while True:
                request = registry_service_pb2.ListLogsRequest(name=name, resume_token=token)
                request.wait.FromMilliseconds(500)
                token = (await self.registry.stub.ListLogs(request)).resume_token
                run = await self.run(name)
                if run.status.state in states:
                    return run

    async def run(self, name: str) -> Run:
        run: Run = await self.registry.stub.GetRun(registry_service_pb2.GetRunRequest(name=name))
        return run

    async def points(self, name: str, metric: str = "train/loss") -> list[tuple[int, int]]:
        """Attempt and step of every stored point of a metric."""
        request = registry_service_pb2.ListMetricsRequest(run=name)
        response = await self.registry.stub.ListMetrics(request)
        return [(point.attempt, point.step) for point in response.points if point.metric == metric]

    async def curve(self, name: str) -> list[int]:
        request = registry_service_pb2.GetCurvesRequest(runs=[name], metrics=["train/loss"])
        response = await self.registry.stub.GetCurves(request)
        return list(response.curves[0].steps)

    async def checkpoints(self, name: str) -> list[tuple[int, int]]:
        """Attempt and step of every recorded checkpoint, by step."""
        request = registry_service_pb2.ListArtifactsRequest(owner=name, kind="checkpoint")
        response = await self.registry.stub.ListArtifacts(request)
        return sorted((each.attempt, each.step) for each in response.artifacts)

    async def artifacts(self, name: str, kind: str) -> list[int]:
        """The steps of the recorded artifacts of a kind, in order."""
        request = registry_service_pb2.ListArtifactsRequest(owner=name, kind=kind)
        response = await self.registry.stub.ListArtifacts(request)
        return sorted(each.step for each in response.artifacts)

    async def log(self, name: str) -> list[str]:
        response = await self.registry.stub.ListLogs(registry_service_pb2.ListLogsRequest(name=name))
        return [line.text for line in response.lines]

    def gate(self, step: int, attempt: int = 1) -> Gate:
        return Gate(self.gates / f"{attempt}-{step}")


class Gate:
    """A step at which an attempt waits."""

    def __init__(self, pipe: Path) -> None:
        self._pipe = pipe
        self._answer = pipe.with_name(f"{pipe.name}-answer")
        os.mkfifo(self._pipe)
        os.mkfifo(self._answer)

    async def reached(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await asyncio.to_thread(self._pipe.read_text) == "reached"

    async def open(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await asyncio.to_thread(self._answer.write_text, "go on")


@pytest.fixture
def bench(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    program = tmp_path / "program"
    gates = tmp_path / "gates"
    program.mkdir()
    gates.mkdir()
    (program / "fake_training_program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(program))
    return Bench(registry, tmp_path / "work", gates)
