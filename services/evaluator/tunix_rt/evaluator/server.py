"""The evaluator's gRPC service, and how its process is put together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tunix_rt.answers.score import ItemOutcome
from tunix_rt.blobs.blobs import Blobs
from tunix_rt.blobs.open import open_blobs
from tunix_rt.evaluator import spec
from tunix_rt.evaluator.endpoints import ChatClient
from tunix_rt.evaluator.engine_client import EngineClient
from tunix_rt.evaluator.evaluation import Evaluator
from tunix_rt.evaluator.judge_jobs import JudgeJobs, refuse_own_judge
from tunix_rt.evaluator.judging import Judges
from tunix_rt.evaluator.messages import Item, ItemDone, ItemFailed, Text
from tunix_rt.evaluator.prediction_stream import PredictionStreams
from tunix_rt.evaluator.settings import Settings, named_endpoints
from tunix_rt.evaluator.subjects import DatasetStore, engine_model, require_examples, require_split
from tunix_rt.jobs.evaluation_spec import complete_decoding
from tunix_rt.jobs.models import fixed_name, resolve_subject
from tunix_rt.jobs.remote import CALL_SECONDS, answer
from tunix_rt.jobs.tasks import fill_in_named
from tunix_rt.jobs.worker import Worker
from tunix_rt.rpc.channel import new_request_id, open_channel
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.rpc.names import EVALUATION, require
from tunix_rt.rpc.server import Server
from tunix_rt.rpc.streams import read_on
from tunix_rt.scoring.items import outcome_value
from tunix_rt.scoring.scorer import Scorer
from tunix_rt.scoring.shares import share_score
from tunix_rt.traces.text import DEFAULT_FORMAT, prompt_messages
from tunix_rt.v1 import evaluator_service_pb2 as pb
from tunix_rt.v1 import job_service_pb2 as job_pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1.evaluation_pb2 import Evaluation, EvaluationSpec
from tunix_rt.v1.evaluator_service_pb2_grpc import (
    EvaluatorServiceServicer,
    add_EvaluatorServiceServicer_to_server,
)
from tunix_rt.v1.job_service_pb2_grpc import JobServiceStub
from tunix_rt.v1.registry_service_pb2_grpc import RegistryServiceStub

SERVICE = "tunix_rt.v1.EvaluatorService"
Context = grpc.aio.ServicerContext[Any, Any]


class EvaluatorServicer(EvaluatorServiceServicer):
    """Checks requests; generation is the engine's, memory the registry's."""

    def __init__(
        self,
        registry: Any,
        jobs: Any,
        blobs: Blobs,
        *,
        engine: EngineClient,
        scorer: Scorer,
        work: Path,
        judges: Judges,
    ) -> None:
        self._registry = registry
        self._jobs = jobs
        self._blobs = blobs
        self._engine = engine
        self._scorer = scorer
        self._work = work
        self._judges = judges
        self._datasets = DatasetStore(registry, blobs, work=work)
        self._predictions = PredictionStreams(registry, jobs, blobs, self._datasets, work=work)

    async def CreateEvaluation(self, request: pb.CreateEvaluationRequest, _: Context) -> Evaluation:
        """Fills in the spec from its task, checks it and what it names, and queues it."""
        wanted = request.evaluation.spec
        filled, differing = await fill_in_named(self._registry, wanted, "evaluation.spec")
        wanted.CopyFrom(filled)
        spec.check_create(request, differing)
        complete = spec.complete_spec(request.evaluation.spec)
        complete.subject = await fixed_name(self._registry, complete.subject)
        subject = await resolve_subject(self._registry, complete.subject)
        await self._check_judge(complete, subject.digest)
        dataset = await self._datasets.get(complete.dataset)
        require_split(dataset, complete.split)
        require_examples(dataset, complete)
        return await self._enqueue(
            request.evaluation_id, complete, request.evaluation.labels, request.request_id
        )

    async def CalibrateJudge(self, request: pb.CalibrateJudgeRequest, _: Context) -> Evaluation:
        """Checks the judge and what it is measured on, and queues the calibration."""
        complete = spec.calibration_spec(request)
        await self._judges.digest(complete.judge)
        require_split(await self._datasets.get(complete.dataset), complete.split)
        return await self._enqueue(request.evaluation_id, complete, request.labels, request.request_id)

    async def CancelEvaluation(self, request: pb.CancelEvaluationRequest, _: Context) -> Evaluation:
        """Asks the worker to stop; one that waits in the queue is cancelled at once."""
        name = require(request.name, EVALUATION, "name")
        cancel = job_pb.RequestCancellationRequest(name=name)
        await answer(self._jobs.RequestCancellation(cancel, timeout=CALL_SECONDS))
        return await self._evaluation(name)

    async def Generate(self, request: pb.GenerateRequest, _: Context) -> AsyncIterator[pb.GenerateResponse]:
        """Streams text as it appears; the end of the call stops the rows in the engine."""
        spec.check_generate(request)
        name = await fixed_name(self._registry, request.subject)
        subject = await resolve_subject(self._registry, name)
        model = await engine_model(self._blobs, subject, self._work, request.weight_type or "float32")
        items = [
            Item(index, messages=_messages(prompt, request), sample=sample)
            for index, prompt in enumerate(request.prompts)
            for sample in range(request.samples or 1)
        ]
        decoding = spec.engine_decoding(complete_decoding(request.decoding))
        events = self._engine.generate(
            model, items, decoding=decoding, stream=True, log_probabilities=request.log_probabilities
        )
        async with aclosing(events):
            async for event in events:
                if isinstance(event, ItemFailed):
                    raise InvalidArgument.of(f"prompts[{event.item}]", event.message)
                if isinstance(event, Text | ItemDone):
                    yield _generated(event)

    async def ScorePredictions(
        self, requests: AsyncIterator[pb.ScorePredictionsRequest], _: Context
    ) -> Evaluation:
        """Stores predictions and queues the evaluation that scores them."""
        async with read_on(requests):
            return await self._evaluation(await self._predictions.receive(requests))

    async def ScoreAnswers(self, request: pb.ScoreAnswersRequest, _: Context) -> pb.ScoreAnswersResponse:
        """Scores outputs as an evaluation does. Stores nothing."""
        spec.check_answers(request)
        return await asyncio.to_thread(_score_answers, request, self._scorer)

    async def _check_judge(self, complete: EvaluationSpec, subject_digest: str) -> None:
        """Raises unless the judge can be asked and its calibration is its own."""
        if complete.HasField("judge"):
            digest = await self._judges.digest(complete.judge)
            refuse_own_judge(complete, digest, subject_digest, "evaluation.spec")
            await self._judges.calibration(complete.judge, digest)

    async def _enqueue(
        self, evaluation_id: str, complete: EvaluationSpec, labels: Mapping[str, str], request_id: str
    ) -> Evaluation:
        job = job_pb.Job(name=f"evaluations/{evaluation_id}", evaluation=complete, labels=dict(labels))
        enqueue = job_pb.EnqueueJobRequest(job=job, request_id=request_id or new_request_id())
        queued = await answer(self._jobs.EnqueueJob(enqueue, timeout=CALL_SECONDS))
        return await self._evaluation(queued.name)

    async def _evaluation(self, name: str) -> Evaluation:
        request = registry_pb.GetEvaluationRequest(name=name)
        found: Evaluation = await answer(self._registry.GetEvaluation(request, timeout=CALL_SECONDS))
        return found


@dataclass
class Running:
    """A started evaluator."""

    server: Server
    engine: EngineClient
    scorer: Scorer
    judging: JudgeJobs
    _channel: grpc.aio.Channel
    _stopping: asyncio.Event
    _worker: asyncio.Task[None]

    @property
    def port(self) -> int:
        """The port in use."""
        return self.server.port

    async def stop(self, grace: float = 10.0) -> None:
        """Gives the job in hand back, drains open calls, and ends the engine and the scorer's workers."""
        self._stopping.set()
        await self._worker
        await self.server.stop(grace)
        await self.engine.stop()
        await asyncio.to_thread(self.scorer.close)
        await self._channel.close()


async def start(settings: Settings) -> Running:
    """Starts the server and one worker.

    Raises ValueError for the settings of store or endpoints, and BlobsUnavailableError.
    """
    endpoints = named_endpoints(settings, os.environ)
    blobs = await asyncio.to_thread(open_blobs, settings.blobs)
    settings.work.mkdir(parents=True, exist_ok=True)
    channel = open_channel(settings.registry, retries=False)
    registry, jobs = RegistryServiceStub(channel), JobServiceStub(channel)
    engine, scorer = EngineClient(_engine_environment(settings)), Scorer()
    clients = {name: ChatClient(endpoint) for name, endpoint in endpoints.items()}
    judges = Judges(registry, blobs, engine, settings.work, clients)
    server = Server(settings.listen, [SERVICE], metrics_address=settings.metrics)
    servicer = EvaluatorServicer(
        registry, jobs, blobs, engine=engine, scorer=scorer, work=settings.work, judges=judges
    )
    add_EvaluatorServiceServicer_to_server(servicer, server.grpc_server)
    await server.start()
    judging = JudgeJobs(registry, jobs, judges, scorer, settings.judge_kappa)
    evaluator = Evaluator(registry, jobs, blobs, engine, scorer, settings.work, judging)
    worker = Worker(
        jobs,
        kind="evaluation",
        worker_id=settings.worker_id,
        handle=evaluator.handle,
        lease_seconds=settings.lease_seconds,
    )
    server.metrics.gauge("tunix_rt_evaluating", "1 while an evaluation is in hand.", lambda: worker.working)
    server.metrics.gauge(
        "tunix_rt_engine_running", "1 while the engine runs.", lambda: engine.pid is not None
    )
    server.metrics.gauge(
        "tunix_rt_engine_requests", "Requests that the engine works on.", lambda: engine.open_requests
    )
    stopping = asyncio.Event()
    done = asyncio.create_task(worker.run(stopping))
    return Running(server, engine, scorer, judging, channel, stopping, done)


def _engine_environment(settings: Settings) -> dict[str, str]:
    environment = {}
    if settings.compile_cache:
        environment["TUNIX_RT_COMPILE_CACHE"] = str(settings.compile_cache)
    if settings.output_cache_bytes:
        environment["TUNIX_RT_OUTPUT_CACHE"] = str(settings.work / "outputs")
        environment["TUNIX_RT_OUTPUT_CACHE_BYTES"] = str(settings.output_cache_bytes)
    if settings.engine_memory:
        environment["TUNIX_RT_ENGINE_MEMORY_BYTES"] = str(int(settings.engine_memory))
    return environment


def _messages(prompt: str, request: pb.GenerateRequest) -> tuple[dict[str, str], ...]:
    if request.format != spec.BARE_FORMAT:
        format_name = request.format or DEFAULT_FORMAT
        return tuple(prompt_messages(prompt, format_name, request.system_prompt))
    system = request.system_prompt.strip()
    before = ({"role": "system", "content": system},) if system else ()
    return (*before, {"role": "user", "content": prompt})


def _generated(event: Text | ItemDone) -> pb.GenerateResponse:
    return pb.GenerateResponse(
        index=event.item,
        text=event.text,
        completion_tokens=event.completion_tokens,
        finish_reason=event.finish_reason if isinstance(event, ItemDone) else "",
        sample=event.sample,
        tokens=[
            pb.GeneratedToken(id=each.id, text=each.text, log_probability=each.log_probability)
            for each in event.tokens
        ],
    )


def _outcomes(request: pb.ScoreAnswersRequest, scorer: Scorer) -> list[ItemOutcome]:
    """The outcome of each answer; formulas are compared by all workers."""

    def outcome(each: pb.AnswerToScore) -> ItemOutcome:
        return scorer.score(
            each.output,
            each.expected_answer,
            each.answer_type,
            each.aliases,
            each.finish_reason or "stop",
            format=request.format,
            pattern=request.answer_pattern,
        )

    with ThreadPoolExecutor(scorer.workers) as threads:
        return list(threads.map(outcome, request.answers))


def _score_answers(request: pb.ScoreAnswersRequest, scorer: Scorer) -> pb.ScoreAnswersResponse:
    scored = []
    for outcome in _outcomes(request, scorer):
        found = outcome.extracted is not None
        scored.append(
            pb.ScoredAnswer(
                outcome=outcome_value(outcome),
                score=outcome.score,
                strict_score=outcome.strict_score,
                extracted_answer=outcome.extracted or "",
                rule=outcome.rule if found else "",
            )
        )
    return pb.ScoreAnswersResponse(scored_answers=scored, score=share_score([each.score for each in scored]))
