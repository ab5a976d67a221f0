"""Judges at work: models of ours through the engine, and models behind named endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tunix_rt.blobs.blobs import Blobs
from tunix_rt.evaluator.endpoints import AnswerTimeout, ChatClient, Endpoint, RefusedRequest
from tunix_rt.evaluator.engine_client import EngineClient, EngineModel
from tunix_rt.evaluator.messages import ItemFailed, TextScored, TextToScore
from tunix_rt.jobs.judge_spec import is_calibration
from tunix_rt.jobs.models import cached_model, resolve_subject
from tunix_rt.jobs.remote import CALL_SECONDS, answer
from tunix_rt.judges.requests import Case, probability_messages, text_messages
from tunix_rt.judges.verdicts import Verdict, read_verdict, undecided, verdict_of_log_likelihoods
from tunix_rt.rpc.errors import FailedPrecondition, NotFound, Reason, Unavailable
from tunix_rt.rpc.names import ENDPOINT, matches, resource_id
from tunix_rt.v1 import evaluation_pb2 as pb
from tunix_rt.v1 import registry_service_pb2 as registry_pb
from tunix_rt.v1.job_pb2 import JobState

_CHUNK = 64  # cases in one request to the engine; so other requests get their turn
SILENCE = 8  # answers in a row that are late: the endpoint is taken for down
Verdicts = AsyncGenerator[tuple[int, Verdict]]


class OpenJudge(Protocol):
    """A judge that can be asked."""

    @property
    def digest(self) -> str:
        """The digest of the weights, empty behind an endpoint."""

    def verdicts(self, cases: Sequence[Case]) -> Verdicts:
        """The number of each case and its verdict, in any order."""


@dataclass(frozen=True)
class ModelJudge:
    """A model of ours: the probability of one verdict against the other."""

    engine: EngineClient
    model: EngineModel

    @property
    def digest(self) -> str:
        """The digest of the weights."""
        return self.model.digest

    async def verdicts(self, cases: Sequence[Case]) -> Verdicts:
        """Yields the verdicts as the engine has scored both words of a case."""
        for start in range(0, len(cases), _CHUNK):
            chunk = cases[start : start + _CHUNK]
            texts = [
                TextToScore(number, probability_messages(case), option, sample)
                for number, case in enumerate(chunk, start)
                for sample, option in enumerate(case.options)
            ]
            async with aclosing(self._scored(texts)) as scored:
                async for each in scored:
                    yield each

    async def _scored(self, texts: Sequence[TextToScore]) -> Verdicts:
        known: dict[int, dict[int, float]] = {}
        failed: set[int] = set()
        async with aclosing(self.engine.score_texts(self.model, texts)) as events:
            async for event in events:
                if isinstance(event, ItemFailed) and event.item not in failed:
                    failed.add(event.item)
                    yield event.item, undecided(event.message)
                elif isinstance(event, TextScored):
                    scores = known.setdefault(event.item, {})
                    scores[event.sample] = event.log_likelihood
                    if len(scores) == 2:
                        yield event.item, verdict_of_log_likelihoods(scores[0], scores[1])


@dataclass(frozen=True)
class EndpointJudge:
    """A model behind an endpoint: its text is read for a verdict."""

    client: ChatClient
    model: str
    digest: str = ""

    async def verdicts(self, cases: Sequence[Case]) -> Verdicts:
        """Yields the verdicts as the answers come. Raises Unavailable, reason JUDGE_UNAVAILABLE."""
        late = 0
        waiting = iter(enumerate(cases))
        tasks: set[asyncio.Task[tuple[int, Verdict]]] = set()
        try:
            while True:
                while len(tasks) < self.client.endpoint.concurrency and (case := next(waiting, None)):
                    tasks.add(asyncio.create_task(self._verdict(*case)))
                if not tasks:
                    return
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    number, verdict = task.result()
                    late = late + 1 if verdict.timed_out else 0
                    if late >= SILENCE:
                        raise _silent(self.client.endpoint)
                    yield number, verdict
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _verdict(self, number: int, case: Case) -> tuple[int, Verdict]:
        try:
            found = await self.client.ask(self.model, text_messages(case))
        except RefusedRequest as error:
            return number, undecided(str(error))
        except AnswerTimeout as error:
            return number, undecided(str(error), timed_out=True)
        return number, read_verdict(found.text, case, cut=found.cut)


@dataclass(frozen=True)
class Judges:
    """Finds and opens judges, and checks what was measured of them."""

    registry: Any
    blobs: Blobs
    engine: EngineClient
    work: Path
    clients: Mapping[str, ChatClient]

    async def digest(self, judge: pb.Judge) -> str:
        """The digest of the judge's weights, empty behind an endpoint. Raises NotFound, RUN_NOT_FINISHED."""
        if matches(judge.subject, ENDPOINT):
            self._client(judge)
            return ""
        return (await resolve_subject(self.registry, judge.subject)).digest

    async def open(self, judge: pb.Judge) -> OpenJudge:
        """The judge, with its weights fetched. Raises as `digest` does."""
        if matches(judge.subject, ENDPOINT):
            return EndpointJudge(self._client(judge), judge.model)
        subject = await resolve_subject(self.registry, judge.subject)
        directory = await cached_model(self.blobs, subject, self.work)
        return ModelJudge(self.engine, EngineModel(directory, subject.digest))

    async def calibration(self, judge: pb.Judge, digest: str) -> pb.JudgeCalibration | None:
        """What the judge's calibration has found; None where it names none.

        Raises FailedPrecondition, reason CALIBRATION_MISMATCH, for one of another judge or without a
        result.
        """
        if not judge.calibration:
            return None
        request = registry_pb.GetEvaluationRequest(name=judge.calibration)
        found: pb.Evaluation = await answer(self.registry.GetEvaluation(request, timeout=CALL_SECONDS))
        differing = _mismatches(judge, digest, found)
        if differing:
            raise FailedPrecondition(
                Reason.CALIBRATION_MISMATCH,
                f"`{judge.calibration}` does not calibrate this judge: {'; '.join(differing)}. "
                "Calibrate this judge with CalibrateJudge, and name that evaluation.",
                {"resource": judge.calibration},
            )
        return found.result.calibration

    def _client(self, judge: pb.Judge) -> ChatClient:
        client = self.clients.get(resource_id(judge.subject))
        if client is None:
            known = ", ".join(f"`endpoints/{name}`" for name in sorted(self.clients)) or "none"
            text = f"The operator of the evaluator names endpoints in TUNIX_RT_ENDPOINTS; known: {known}."
            raise NotFound(judge.subject, text)
        return client


def _mismatches(judge: pb.Judge, digest: str, calibration: pb.Evaluation) -> list[str]:
    """In what a calibration is not one of this judge."""
    spec = calibration.spec
    if not is_calibration(spec):
        return ["it is an evaluation of another method"]
    found = []
    if calibration.status.state != JobState.JOB_STATE_SUCCEEDED:
        found.append(f"its state is {JobState.Name(calibration.status.state)}")
    for field in ("subject", "model", "rubric"):
        asked, measured = getattr(judge, field), getattr(spec.judge, field)
        if asked != measured:
            found.append(f"its {field} is `{measured[:200]}`, not `{asked[:200]}`")
    if not found and calibration.weights_digest != digest:
        found.append(f"its weights are {calibration.weights_digest[:12]}, not {digest[:12]}")
    return found


def _silent(endpoint: Endpoint) -> Unavailable:
    name = f"endpoints/{endpoint.name}"
    text = f"{SILENCE} requests in a row had no answer of `{name}` within {endpoint.timeout_seconds:g} s."
    return Unavailable(Reason.JUDGE_UNAVAILABLE, text, {"resource": name})
