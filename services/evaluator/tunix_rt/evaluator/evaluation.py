"""Handles a claimed evaluation: generates, scores, stores each item, and ends with the result."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from tunix_rt.blobs.blobs import Blobs, store_file
from tunix_rt.evaluator.engine_client import EngineClient, EngineModel
from tunix_rt.evaluator.judge_jobs import JudgeJobs
from tunix_rt.evaluator.judged import add_judged, unscored
from tunix_rt.evaluator.messages import Finished, Item, ItemDone, ItemFailed
from tunix_rt.evaluator.recorder import Recorder
from tunix_rt.evaluator.results import failed_item, predictions_jsonl, scored_item
from tunix_rt.evaluator.spec import complete_spec, engine_decoding
from tunix_rt.evaluator.subjects import (
    DatasetStore,
    contaminated_count,
    contamination,
    refuse_contamination,
    require_examples,
    require_split,
    stored_scores,
)
from tunix_rt.evaluator.summary import summarise
from tunix_rt.jobs.evaluation_spec import DEFAULT_EXAMPLE_SPLIT
from tunix_rt.jobs.judge_spec import is_calibration, is_judged_by
from tunix_rt.jobs.models import Subject, cached_model, resolve_subject
from tunix_rt.jobs.remote import CALL_SECONDS, answer, in_store, persist
from tunix_rt.jobs.worker import ClaimedJob
from tunix_rt.rpc.errors import FailedPrecondition, Reason
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.traces.few_shot import ExamplePool, few_shot_messages
from tunix_rt.traces.trace import Trace
from tunix_rt.v1 import job_service_pb2 as pb
from tunix_rt.v1.artifact_pb2 import Artifact, File
from tunix_rt.v1.dataset_pb2 import Dataset
from tunix_rt.v1.evaluation_pb2 import EvaluationResult, EvaluationSpec, ItemScore

T = TypeVar("T")
Place = tuple[int, int]  # the position of an item in the split, and the number of the sample


@dataclass(frozen=True)
class _Task:
    """What is to be generated: every sample of these items, perhaps with examples before the question."""

    spec: EvaluationSpec
    traces: Sequence[Trace]
    pool: ExamplePool | None

    def places(self) -> list[Place]:
        """All places, by position."""
        return [(at, sample) for at in range(len(self.traces)) for sample in range(self.spec.samples)]

    def messages(self, trace: Trace) -> tuple[Mapping[str, str], ...]:
        """The chat messages of an item. Raises ValueError for one that cannot be asked or scored."""
        spec, examples = self.spec, self.spec.few_shot
        if not trace.final_answer and not (is_judged_by(spec) and spec.judge.rubric):
            raise ValueError("there is no answer to score by")
        drawn = self.pool.draw(trace, examples.count, seed=examples.seed) if self.pool else ()
        return tuple(few_shot_messages(trace.prompt, drawn, spec.format, spec.system_prompt))


@dataclass(frozen=True)
class Evaluator:
    """Handles evaluations; outputs that an earlier attempt has stored are not generated again."""

    registry: Any
    jobs: Any
    blobs: Blobs
    engine: EngineClient
    work: Path
    judging: JudgeJobs

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
        if is_calibration(spec):
            return await self.judging.calibrate(claimed, spec, datasets)
        subject = await self._patiently(claimed, lambda: resolve_subject(self.registry, spec.subject))
        dataset = await self._patiently(claimed, lambda: datasets.get(spec.dataset))
        require_split(dataset, spec.split)
        require_examples(dataset, spec)
        traces = await self._patiently(claimed, lambda: datasets.traces(dataset, spec.split))
        traces = traces[: spec.limit] if spec.limit else traces
        found = await self._patiently(claimed, lambda: contamination(subject, traces, datasets))
        if not found.clean and not spec.allow_contamination:
            refuse_contamination(found, spec.subject)
        claimed.weights_digest = subject.digest
        judge, calibration = await self.judging.open(claimed, spec, subject)
        task = _Task(spec, traces, await self._pool(claimed, spec, dataset, datasets))
        claimed.progress_total = len(task.places())
        scores, rate = await self._scores(claimed, task, subject)
        if judge:
            scores = await self.judging.judge(claimed, spec, judge, scores, traces)
        _require_some(scores)
        await self._store_predictions(claimed, scores)
        train = await self._baseline_traces(claimed, spec, dataset, datasets)
        result = await asyncio.to_thread(
            summarise,
            scores,
            traces,
            spec=spec,
            train=train,
            tokens_per_second=rate,
            contaminated_count=contaminated_count(found),
        )
        if judge:
            add_judged(result, scores, spec, calibration)
        return result

    async def _pool(
        self, claimed: ClaimedJob, spec: EvaluationSpec, dataset: Dataset, datasets: DatasetStore
    ) -> ExamplePool | None:
        if not spec.HasField("few_shot"):
            return None
        require_examples(dataset, spec)
        traces = await self._patiently(claimed, lambda: datasets.traces(dataset, spec.few_shot.split))
        return ExamplePool(traces)

    async def _baseline_traces(
        self, claimed: ClaimedJob, spec: EvaluationSpec, dataset: Dataset, datasets: DatasetStore
    ) -> list[Trace]:
        """What the rules without a model may learn from; nothing where the training split is evaluated."""
        if spec.split == DEFAULT_EXAMPLE_SPLIT:
            return []
        return await self._patiently(claimed, lambda: datasets.traces(dataset, DEFAULT_EXAMPLE_SPLIT))

    async def _scores(
        self, claimed: ClaimedJob, task: _Task, subject: Subject
    ) -> tuple[list[ItemScore], float]:
        """The score of every output, and the tokens a second of those generated now."""
        known = await self._patiently(claimed, lambda: stored_scores(self.registry, claimed.name))
        scores = {(item.position, item.sample): item for item in known}
        claimed.progress = len(scores)
        missing = [place for place in task.places() if place not in scores]
        get_logger().info(
            "evaluating",
            items=len(task.traces),
            samples=task.spec.samples,
            stored=len(scores),
            weights=subject.digest,
        )
        rate = 0.0
        async with Recorder(self.jobs, claimed) as recorder:
            items = _items(task, missing, recorder, scores)
            if items:
                directory = await self._patiently(
                    claimed, lambda: cached_model(self.blobs, subject, self.work)
                )
                model = EngineModel(directory, subject.digest)
                rate = await self._generate(model, items, task, recorder, scores)
        return [scores[place] for place in sorted(scores)], rate

    async def _generate(
        self,
        model: EngineModel,
        items: Sequence[Item],
        task: _Task,
        recorder: Recorder,
        scores: dict[Place, ItemScore],
    ) -> float:
        rate = 0.0
        decoding = engine_decoding(task.spec.decoding)
        async with aclosing(self.engine.generate(model, items, decoding=decoding, stream=False)) as events:
            async for event in events:
                if isinstance(event, ItemDone | ItemFailed):
                    score = await asyncio.to_thread(_score, task.traces[event.item], event, task.spec)
                    score = unscored(score, task.spec)
                    scores[event.item, event.sample] = score
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


def _items(
    task: _Task, places: Sequence[Place], recorder: Recorder, scores: dict[Place, ItemScore]
) -> list[Item]:
    """The items for the engine; those that cannot be asked or scored are recorded as failed."""
    items = []
    for position, samples in groupby(places, key=lambda place: place[0]):
        trace = task.traces[position]
        try:
            messages = task.messages(trace)
        except ValueError as error:
            for place in samples:
                scores[place] = _failed(trace, place, str(error))
                recorder.add(scores[place])
            continue
        items += [Item(position, messages=messages, sample=sample) for _, sample in samples]
    return items


def _score(trace: Trace, event: ItemDone | ItemFailed, spec: EvaluationSpec) -> ItemScore:
    place = (event.item, event.sample)
    if isinstance(event, ItemFailed):
        return _failed(trace, place, event.message)
    try:
        return scored_item(trace, event, spec)
    except ValueError as error:  # an answer type or a text that the scorer refuses
        return _failed(trace, place, f"cannot be scored: {error}")


def _failed(trace: Trace, place: Place, why: str) -> ItemScore:
    position, sample = place
    get_logger().warning("item failed", item=trace.id, position=position, sample=sample, error=why)
    return failed_item(trace, position, sample)


def _require_some(scores: Sequence[ItemScore]) -> None:
    """Raises FailedPrecondition, reason LIMIT_EXCEEDED, if no item at all could be generated and scored."""
    if all(score.outcome == ItemScore.FAILED for score in scores):
        count = len({score.trace_id for score in scores})
        raise FailedPrecondition(
            Reason.LIMIT_EXCEEDED,
            f"None of the {count} items could be generated and scored: a prompt and "
            "`decoding.max_tokens` together must fit the model's context, and an item needs an answer. "
            "The evaluator's log names the fault of each.",
            {"count": count},
        )


async def _first(work: asyncio.Task[Any], *events: asyncio.Event) -> None:
    """Waits until the work is done or one of the events is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait({work, *waits}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
