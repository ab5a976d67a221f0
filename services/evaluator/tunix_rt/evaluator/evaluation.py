"""Handles a claimed evaluation: generates, scores, stores each item, and ends with the result."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from tunix_rt.blobs.blobs import Blobs, fetch_file, store_file
from tunix_rt.evaluator.engine_client import EngineClient
from tunix_rt.evaluator.evaluation_task import Scores, Task
from tunix_rt.evaluator.generation import generate_items
from tunix_rt.evaluator.imported import imported_subject, score_imported
from tunix_rt.evaluator.judge_jobs import JudgeJobs
from tunix_rt.evaluator.recorder import Recorder
from tunix_rt.evaluator.spec import complete_spec
from tunix_rt.evaluator.subjects import (
    DatasetStore,
    contaminated_count,
    contamination,
    engine_model,
    refuse_contamination,
    require_examples,
    require_split,
    stored_scores,
)
from tunix_rt.evaluator.text_evaluation import score_items
from tunix_rt.jobs.evaluation_spec import (
    DEFAULT_EXAMPLE_SPLIT,
    GENERATION,
    MULTIPLE_CHOICE,
    PERPLEXITY,
    is_imported,
)
from tunix_rt.jobs.judge_spec import is_calibration
from tunix_rt.jobs.models import Subject, resolve_subject
from tunix_rt.jobs.remote import CALL_SECONDS, answer, in_store, persist
from tunix_rt.jobs.worker import ClaimedJob
from tunix_rt.rpc.errors import FailedPrecondition, Reason
from tunix_rt.rpc.telemetry import get_logger
from tunix_rt.scoring.items import predictions_jsonl
from tunix_rt.scoring.judged import add_judged
from tunix_rt.scoring.scorer import Scorer
from tunix_rt.scoring.summary import summarise
from tunix_rt.traces.few_shot import ExamplePool
from tunix_rt.traces.trace import Trace
from tunix_rt.v1 import job_service_pb2 as pb
from tunix_rt.v1.artifact_pb2 import Artifact, File
from tunix_rt.v1.dataset_pb2 import Dataset
from tunix_rt.v1.evaluation_pb2 import EvaluationResult, EvaluationSpec, ItemScore

_NEEDS = {
    GENERATION: "a prompt and `decoding.max_tokens` together must fit the model's context, and an item "
    "needs an answer.",
    MULTIPLE_CHOICE: "an item needs 2 to 26 texts in `meta.choices`, of which its answer names one, and a "
    "prompt with a choice must fit the model's context.",
    PERPLEXITY: "a prompt with the item's completion must fit the model's context, and an item needs a "
    "completion or an answer.",
}
T = TypeVar("T")


@dataclass(frozen=True)
class Evaluator:
    """Handles evaluations; outputs that an earlier attempt has stored are not generated again."""

    registry: Any
    jobs: Any
    blobs: Blobs
    engine: EngineClient
    scorer: Scorer
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
        subject = await self._subject(claimed, spec)
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
        task = Task(spec, traces, await self._pool(claimed, spec, dataset, datasets))
        claimed.progress_total = task.size
        scores, rate = await self._scores(claimed, task, subject)
        if judge:
            scores = await self.judging.judge(claimed, spec, judge, scores, traces)
        _require_some(scores, spec)
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
            scorer=self.scorer,
        )
        if judge:
            add_judged(result, scores, spec, calibration)
        return result

    async def _subject(self, claimed: ClaimedJob, spec: EvaluationSpec) -> Subject:
        if is_imported(spec):
            return imported_subject(spec)
        return await self._patiently(claimed, lambda: resolve_subject(self.registry, spec.subject))

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
        self, claimed: ClaimedJob, task: Task, subject: Subject
    ) -> tuple[list[ItemScore], float]:
        """The score of every output, and the tokens a second of those generated now."""
        known = await self._patiently(claimed, lambda: stored_scores(self.registry, claimed.name))
        claimed.progress = len(known)
        get_logger().info(
            "evaluating",
            items=len(task.traces),
            samples=task.spec.samples,
            stored=len(known),
            weights=subject.digest,
        )
        rate = 0.0
        async with Recorder(self.jobs, claimed) as recorder:
            of_place = {(item.position, item.sample): item for item in known}
            scores = Scores(task, self.scorer, recorder, of_place)
            if is_imported(task.spec):
                await self._import(claimed, scores)
            items = scores.missing_items()
            first = next(items, None)
            if first:
                model = await self._patiently(
                    claimed,
                    lambda: engine_model(self.blobs, subject, self.work, task.spec.weight_type or "float32"),
                )
                work = generate_items if task.spec.method == GENERATION else score_items
                rate = await work(self.engine, model, chain((first,), items), scores=scores)
        return [of_place[place] for place in sorted(of_place)], rate

    async def _import(self, claimed: ClaimedJob, scores: Scores) -> None:
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            path, digest = Path(folder) / "predictions.jsonl", scores.task.spec.predictions
            await self._patiently(claimed, lambda: in_store(fetch_file, self.blobs, digest, path))
            await score_imported(path, scores)

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


def _require_some(scores: Sequence[ItemScore], spec: EvaluationSpec) -> None:
    """Raises FailedPrecondition, reason LIMIT_EXCEEDED, if no item at all could be generated and scored."""
    if all(score.outcome == ItemScore.FAILED for score in scores):
        count = len({score.trace_id for score in scores})
        needs = _NEEDS.get(spec.method, _NEEDS[GENERATION])
        raise FailedPrecondition(
            Reason.LIMIT_EXCEEDED,
            f"None of the {count} items could be generated and scored: {needs} "
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
