"""Handles a claimed evaluation: generates, scores, stores each item, and ends with the result."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tunix_rt.blobs.blobs import Blobs, store_file
from tunix_rt.evaluator.engine_client import EngineClient, EngineModel
from tunix_rt.evaluator.messages import Finished, Item, ItemDone, ItemFailed
from tunix_rt.evaluator.recorder import Recorder
from tunix_rt.evaluator.results import failed_item, predictions_jsonl, scored_item, summarise
from tunix_rt.evaluator.spec import complete_spec, engine_decoding
from tunix_rt.evaluator.subjects import (
    DatasetStore,
    contaminated_count,
    contamination,
    refuse_contamination,
    require_split,
    stored_scores,
)
from tunix_rt.jobs.models import Subject, cached_model, resolve_subject
from tunix_rt.jobs.remote import CALL_SECONDS, answer, in_store, persist
from tunix_rt.jobs.worker import ClaimedJob
from tunix_rt.rpc.errors import FailedPrecondition, Reason
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.traces.text import prompt_messages
from tunix_rt.traces.trace import Trace
from tunix_rt.v1 import job_service_pb2 as pb
from tunix_rt.v1.artifact_pb2 import Artifact, File
from tunix_rt.v1.evaluation_pb2 import EvaluationResult, EvaluationSpec, ItemScore

T = TypeVar("T")


@dataclass(frozen=True)
class Evaluator:
    """Handles evaluations; items that an earlier attempt has stored are not generated again."""

    registry: Any
    jobs: Any
    blobs: Blobs
    engine: EngineClient
    work: Path

    async def handle(self, claimed: ClaimedJob) -> pb.FinishJobRequest:
        """The outcome of an attempt: the result, or that it was cancelled or given back.

        Raises the errors of the API; FailedPrecondition, reason CONTAMINATED, for seen items.
        """
        work = asyncio.create_task(self._evaluate(claimed))
        await _first(work, claimed.cancel_requested, claimed.lease_lost, claimed.stopping)
        if work.done():
            return pb.FinishJobRequest(evaluation=work.result())
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        if claimed.cancel_requested.is_set():
            return pb.FinishJobRequest(cancelled=pb.Cancelled())
        return pb.FinishJobRequest(released=pb.Released())

    async def _evaluate(self, claimed: ClaimedJob) -> EvaluationResult:
        spec = complete_spec(claimed.job.evaluation, "spec")
        datasets = DatasetStore(self.registry, self.blobs, work=self.work)
        subject = await self._patiently(claimed, lambda: resolve_subject(self.registry, spec.subject))
        dataset = await self._patiently(claimed, lambda: datasets.get(spec.dataset))
        require_split(dataset, spec.split)
        traces = await self._patiently(claimed, lambda: datasets.traces(dataset, spec.split))
        traces = traces[: spec.limit] if spec.limit else traces
        found = await self._patiently(claimed, lambda: contamination(subject, traces, datasets))
        if not found.clean and not spec.allow_contamination:
            refuse_contamination(found, spec.subject)
        claimed.weights_digest, claimed.progress_total = subject.digest, len(traces)
        scores, rate = await self._scores(claimed, spec, subject, traces)
        _require_some(scores)
        await self._store_predictions(claimed, scores)
        return summarise(scores, tokens_per_second=rate, contaminated_count=contaminated_count(found))

    async def _scores(
        self, claimed: ClaimedJob, spec: EvaluationSpec, subject: Subject, traces: Sequence[Trace]
    ) -> tuple[list[ItemScore], float]:
        """The score of every item, and the tokens a second of those generated now."""
        known = await self._patiently(claimed, lambda: stored_scores(self.registry, claimed.name))
        scores = {item.position: item for item in known}
        claimed.progress = len(scores)
        recorder = Recorder(self.jobs, claimed)
        missing = [position for position in range(len(traces)) if position not in scores]
        get_logger().info("evaluating", items=len(traces), stored=len(scores), weights=subject.digest)
        async with recorder:
            for position in [each for each in missing if not traces[each].final_answer]:
                scores[position] = _failed(traces[position], position, "no answer to score by")
                recorder.add(scores[position])
            items = [_item(each, traces[each], spec) for each in missing if each not in scores]
            rate = 0.0
            if items:
                directory = await self._patiently(
                    claimed, lambda: cached_model(self.blobs, subject, self.work)
                )
                model = EngineModel(directory, subject.digest)
                rate = await self._generate(model, items, spec, traces, recorder, scores)
        return [scores[position] for position in sorted(scores)], rate

    async def _generate(
        self,
        model: EngineModel,
        items: Sequence[Item],
        spec: EvaluationSpec,
        traces: Sequence[Trace],
        recorder: Recorder,
        scores: dict[int, ItemScore],
    ) -> float:
        rate = 0.0
        decoding = engine_decoding(spec.decoding)
        async with aclosing(self.engine.generate(model, items, decoding=decoding, stream=False)) as events:
            async for event in events:
                if isinstance(event, ItemDone | ItemFailed):
                    score = await asyncio.to_thread(_score, traces[event.item], event)
                    scores[event.item] = score
                    recorder.add(score)
                elif isinstance(event, Finished) and event.measured_seconds > 0:
                    rate = event.measured_tokens / event.measured_seconds
                recorder.check()
        return rate

    async def _store_predictions(self, claimed: ClaimedJob, scores: Sequence[ItemScore]) -> None:
        """Stores every output as an artifact of the evaluation."""
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            path = Path(folder) / "predictions.jsonl"
            path.write_bytes(predictions_jsonl(scores))
            blob = await self._patiently(claimed, lambda: in_store(store_file, self.blobs, path))
        file = File(path="predictions.jsonl", sha256=blob.sha256, size_bytes=blob.size_bytes)
        request = pb.RecordArtifactRequest(
            name=claimed.name,
            attempt=claimed.attempt,
            artifact=Artifact(kind="predictions", files=[file]),
        )
        await self._patiently(
            claimed, lambda: answer(self.jobs.RecordArtifact(request, timeout=CALL_SECONDS))
        )

    async def _patiently(self, claimed: ClaimedJob, call: Callable[[], Awaitable[T]]) -> T:
        return await persist(call, claimed.name, until=claimed.lease_lost)


def _item(position: int, trace: Trace, spec: EvaluationSpec) -> Item:
    messages = prompt_messages(trace.prompt, spec.format, spec.system_prompt)
    return Item(position, messages=tuple(messages))


def _score(trace: Trace, event: ItemDone | ItemFailed) -> ItemScore:
    if isinstance(event, ItemFailed):
        return _failed(trace, event.item, event.message)
    try:
        return scored_item(trace, event.item, event)
    except ValueError as error:  # an answer type or a text that the scorer refuses
        return _failed(trace, event.item, f"cannot be scored: {error}")


def _failed(trace: Trace, position: int, why: str) -> ItemScore:
    get_logger().warning("item failed", item=trace.id, position=position, error=why)
    return failed_item(trace, position)


def _require_some(scores: Sequence[ItemScore]) -> None:
    """Raises FailedPrecondition, reason LIMIT_EXCEEDED, if no item at all could be generated and scored."""
    if all(score.outcome == ItemScore.FAILED for score in scores):
        raise FailedPrecondition(
            Reason.LIMIT_EXCEEDED,
            f"None of the {len(scores)} items could be generated and scored: a prompt and "
            "`decoding.max_tokens` together must fit the model's context, and an item needs an answer. "
            "The evaluator's log names the fault of each.",
            {"count": len(scores)},
        )


async def _first(work: asyncio.Task[Any], *events: asyncio.Event) -> None:
    """Waits until the work is done or one of the events is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait({work, *waits}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
