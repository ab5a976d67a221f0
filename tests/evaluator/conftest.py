"""A tiny model, one warm engine, and a registry with an evaluator: all real, made once for all tests."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import jax.numpy as jnp
import numpy as np
import pytest
import pytest_asyncio
from flax import nnx
from safetensors.numpy import load_file, save_file

from tunix_rt.evaluator.engine_client import EngineClient, EngineModel
from tunix_rt.evaluator.server import Running, start
from tunix_rt.evaluator.settings import EndpointSettings, Settings
from tunix_rt.lm.lora import add_lora, export_lora, lora_config, merge_lora
from tunix_rt.lm.model_files import write_json
from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.lm.weights import load_model, save_model
from tunix_rt.registry.server import start as start_registry
from tunix_rt.registry.settings import Settings as RegistrySettings
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.status import reason_of, status_of, violations_of
from tunix_rt.traces.text import INSTRUCTIONS
from tunix_rt.v1 import artifact_pb2, dataset_pb2, job_service_pb2, registry_service_pb2, run_pb2
from tunix_rt.v1.evaluation_pb2 import Evaluation, EvaluationSpec, ItemScore
from tunix_rt.v1.evaluator_service_pb2 import CreateEvaluationRequest
from tunix_rt.v1.evaluator_service_pb2_grpc import EvaluatorServiceStub
from tunix_rt.v1.job_pb2 import JobState
from tunix_rt.v1.job_service_pb2_grpc import JobServiceStub
from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub

TEXTS = [
    *INSTRUCTIONS.values(),
    *(f"What is {a} + {b}?\n{a} + {b} = {a + b}\nAnswer: {a + b}" for a in range(20) for b in range(20)),
]
TERMINAL = {JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED}
SPLITS = [
    dataset_pb2.Split(name="train", fraction=0.5),
    dataset_pb2.Split(name="test", fraction=0.5),
]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_tiny_model(folder, TEXTS, seed=1, hidden_size=32, num_layers=1, max_positions=512)
    tensors = load_file(folder / "model.safetensors")
    lively = {name: tensor * 20 if tensor.ndim == 2 else tensor for name, tensor in tensors.items()}
    save_file(lively, folder / "model.safetensors")  # larger weights: outputs that depend on the prompt
    return folder


@pytest.fixture(scope="session")
def model(tiny_model: Path) -> EngineModel:
    return EngineModel(tiny_model, "digest-of-tiny")


@pytest.fixture(scope="session")
def adapted(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """Two adapters of the tiny model: each alone in PEFT's layout, and merged as a run leaves it."""
    return [_adapted(tiny_model, tmp_path_factory.mktemp(f"adapter-{seed}"), seed) for seed in (1, 2)]


def _adapted(tiny_model: Path, folder: Path, seed: int) -> tuple[Path, Path]:
    tuned = load_model(tiny_model)
    add_lora(tuned, 4, alpha=8.0, rngs=nnx.Rngs(seed))
    rng = np.random.default_rng(seed)
    for projection in (part for layer in tuned.layers for part in (layer.q, layer.up, layer.down)):
        projection.lora_b[...] = jnp.asarray(rng.normal(size=projection.lora_b.shape), jnp.float32)
    merged = Path(shutil.copytree(tiny_model, folder / "merged"))
    adapter = merged / "adapter"
    adapter.mkdir()
    save_file(export_lora(tuned), adapter / "adapter_model.safetensors")
    write_json(adapter / "adapter_config.json", lora_config(tuned))
    merge_lora(tuned)
    save_model(tuned, merged)
    return adapter, merged


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@dataclass(frozen=True)
class Failure:
    """What a failed call told."""

    code: grpc.StatusCode
    reason: str
    fields: list[str]
    message: str


async def failure_of(call: Awaitable[Any]) -> Failure:
    """How a call fails; an error of the test if it does not."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = status_of(caught.value)
    fields = sorted(field for field, _ in violations_of(status))
    return Failure(caught.value.code(), reason_of(status), fields, status.message)


@dataclass
class Stack:
    """A registry and an evaluator with its worker, and the steps that many tests take."""

    registry: Any
    jobs: Any
    evaluator: Any
    running: Running
    tiny_model: Path
    work: Path

    eventually = staticmethod(eventually)
    failure_of = staticmethod(failure_of)

    async def upload(self, path: str, data: bytes) -> artifact_pb2.File:
        digest = hashlib.sha256(data).hexdigest()

        async def chunks() -> AsyncIterator[registry_service_pb2.UploadBlobRequest]:
            size = 1024 * 1024
            for start_at in range(0, len(data), size):
                yield registry_service_pb2.UploadBlobRequest(
                    sha256=digest, size_bytes=len(data), data=data[start_at : start_at + size]
                )

        assert [each.committed async for each in self.registry.UploadBlob(chunks())][-1] == len(data)
        return artifact_pb2.File(path=path, sha256=digest, size_bytes=len(data))

    async def upload_folder(self, folder: Path) -> list[artifact_pb2.File]:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return [await self.upload(path.relative_to(folder).as_posix(), path.read_bytes()) for path in paths]

    async def make_model(self, folder: Path | None = None) -> str:
        version = await self.registry.CreateModelVersion(
            registry_service_pb2.CreateModelVersionRequest(
                parent="models/tiny",
                model_version={"files": await self.upload_folder(folder or self.tiny_model)},
                request_id=str(uuid.uuid4()),
            )
        )
        return str(version.name)

    async def make_dataset(
        self, traces: Sequence[dataset_pb2.Trace], *, seal: bool = True, splits: Sequence[Any] = SPLITS
    ) -> dataset_pb2.Dataset:
        made = await self.registry.CreateDataset(
            registry_service_pb2.CreateDatasetRequest(dataset=dataset_pb2.Dataset(splits=splits))
        )

        async def messages() -> AsyncIterator[registry_service_pb2.AppendTracesRequest]:
            yield registry_service_pb2.AppendTracesRequest(dataset=made.name, traces=traces)

        assert [each.committed async for each in self.registry.AppendTraces(messages())][-1] == len(traces)
        if seal:
            made = await self.registry.SealDataset(registry_service_pb2.SealDatasetRequest(name=made.name))
        return made

    async def enqueue_run(self, model: str, dataset: str, **tuning: Any) -> str:
        spec = run_pb2.RunSpec(model=model, dataset=dataset, train_split="train", **tuning)
        job = job_service_pb2.Job(name="runs/", run=spec)
        queued = await self.jobs.EnqueueJob(job_service_pb2.EnqueueJobRequest(job=job))
        return str(queued.name)

    async def succeed_run(self, name: str, folder: Path | None = None) -> None:
        """Ends a queued run as a trainer would, with the tiny model as its weights if no other is given."""
        claim = job_service_pb2.ClaimJobRequest(kind="run", worker="trainer")
        job = (await self.jobs.ClaimJob(claim)).job
        assert job.name == name
        artifact = artifact_pb2.Artifact(
            kind="model", files=await self.upload_folder(folder or self.tiny_model)
        )
        made = await self.jobs.RecordArtifact(
            job_service_pb2.RecordArtifactRequest(name=name, attempt=job.status.attempt, artifact=artifact)
        )
        outcome = job_service_pb2.RunOutcome(model_artifact=made.name)
        await self.jobs.FinishJob(
            job_service_pb2.FinishJobRequest(name=name, attempt=job.status.attempt, run=outcome)
        )

    async def evaluate(self, **spec: Any) -> Evaluation:
        request = CreateEvaluationRequest(
            evaluation=Evaluation(spec=EvaluationSpec(**spec)), request_id=str(uuid.uuid4())
        )
        made: Evaluation = await self.evaluator.CreateEvaluation(request)
        return made

    async def evaluation(self, name: str) -> Evaluation:
        request = registry_service_pb2.GetEvaluationRequest(name=name)
        found: Evaluation = await self.registry.GetEvaluation(request)
        return found

    async def ended(self, name: str, seconds: float = 50) -> Evaluation:
        """The evaluation after its end."""

        async def terminal() -> bool:
            return (await self.evaluation(name)).status.state in TERMINAL

        await eventually(terminal, seconds)
        return await self.evaluation(name)

    async def item_scores(self, name: str) -> list[ItemScore]:
        request = registry_service_pb2.ListItemScoresRequest(evaluation=name, page_size=1000)
        return list((await self.registry.ListItemScores(request)).item_scores)


class ChatServer:
    """An OpenAI-compatible server; a test may queue replies, else the model's name says how it judges.

    `honest` compares the last line of an output with the expected answer, `yes` accepts everything, and
    prefers A, and `mumble` gives no verdict.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.replies: list[Callable[[BaseHTTPRequestHandler], None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(({**self.headers, "path": self.path}, body))
                if outer.replies:
                    outer.replies.pop(0)(self)
                    return
                text = outer.judge(body["model"], body["messages"][-1]["content"])
                outer.send(self, 200, outer.completion(text))

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def completion(text: str, finish_reason: str = "stop") -> str:
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
        return json.dumps({"choices": [choice]})

    @staticmethod
    def send(
        handler: BaseHTTPRequestHandler, status: int, body: str, headers: Mapping[str, str] | None = None
    ) -> None:
        handler.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body.encode()))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body.encode())

    @staticmethod
    def judge(model: str, request: str) -> str:
        parts: dict[str, list[str]] = {}
        title = ""
        for line in request.splitlines():
            if line.startswith("> "):
                parts[title].append(line[2:])
            else:
                title = line
                parts[title] = []
        right = f"Answer: {parts['Expected answer:'][0]}"
        pair = "Output A:" in parts
        accepted = parts["Output A:" if pair else "Output:"][-1] == right or model == "yes"
        words = ("A", "B") if pair else ("correct", "incorrect")
        if model == "mumble":
            return "Hm."
        return f"I compared the answers.\nVerdict: {words[not accepted]}"


@pytest.fixture(scope="session")
def chat_server() -> Iterator[ChatServer]:
    made = ChatServer()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="session")
def database(make_database: Callable[[], str]) -> str:
    return make_database()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(
    database: str,
    tiny_model: Path,
    compile_cache: Path,
    chat_server: ChatServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    blobs = (folder / "blobs").as_uri()
    registry = await start_registry(RegistrySettings(database=database, blobs=blobs, listen="127.0.0.1:0"))
    address = f"127.0.0.1:{registry.port}"
    running = await start(
        Settings(
            registry=address,
            blobs=blobs,
            listen="127.0.0.1:0",
            work=folder / "work",
            compile_cache=compile_cache,
            worker_id="evaluator-0",
            lease_seconds=5,
            endpoints={"chat": EndpointSettings(url=chat_server.url)},
        )
    )
    async with open_channel(address) as to_registry, open_channel(f"127.0.0.1:{running.port}") as channel:
        yield Stack(
            RegistryServiceStub(to_registry),
            JobServiceStub(to_registry),
            EvaluatorServiceStub(channel),
            running,
            tiny_model,
            folder / "work",
        )
    await running.stop(0)
    await registry.stop(0)


@pytest.fixture(scope="session")
def engine(stack: Stack) -> EngineClient:
    return stack.running.engine
