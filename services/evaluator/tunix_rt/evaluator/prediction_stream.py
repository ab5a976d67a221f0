"""Receives a stream of predictions and queues the evaluation that scores them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tunix_rt.blobs.blobs import Blob, Blobs, store_file
from tunix_rt.evaluator import spec
from tunix_rt.evaluator.predictions import MAX_PREDICTIONS, Collection, check_message
from tunix_rt.evaluator.subjects import DatasetStore, require_examples, require_split
from tunix_rt.jobs.remote import CALL_SECONDS, answer, in_store
from tunix_rt.jobs.tasks import fill_in_named
from tunix_rt.rpc.channel import new_request_id
from tunix_rt.rpc.errors import InvalidArgument
from tunix_rt.rpc.unknown_fields import unknown_fields
from tunix_rt.traces.trace import Trace
from tunix_rt.v1 import evaluator_service_pb2 as pb
from tunix_rt.v1 import job_service_pb2 as job_pb
from tunix_rt.v1.evaluation_pb2 import EvaluationSpec

Messages = AsyncIterator[pb.ScorePredictionsRequest]


class PredictionStreams:
    """Takes predictions whole or not at all: the file is stored before the evaluation is queued."""

    def __init__(self, registry: Any, jobs: Any, blobs: Blobs, datasets: DatasetStore, *, work: Path) -> None:
        self._registry = registry
        self._jobs = jobs
        self._blobs = blobs
        self._datasets = datasets
        self._work = work

    async def receive(self, messages: Messages) -> str:
        """The name of the queued evaluation.

        Raises InvalidArgument that names the bad predictions, NotFound, FailedPrecondition and
        ResourceExhausted.
        """
        first = await anext(messages, None)
        if first is None:
            raise InvalidArgument.of("evaluation", "is required in the first message; the stream was empty.")
        await self._check(first)
        complete = spec.complete_spec(first.evaluation.spec)
        traces = await self._items(complete)
        complete.predictions = (await self._store(first, messages, traces, complete.samples)).sha256
        job = job_pb.Job(
            name=f"evaluations/{first.evaluation_id}",
            evaluation=complete,
            labels=dict(first.evaluation.labels),
        )
        enqueue = job_pb.EnqueueJobRequest(job=job, request_id=first.request_id or new_request_id())
        queued = await answer(self._jobs.EnqueueJob(enqueue, timeout=CALL_SECONDS))
        return str(queued.name)

    async def _check(self, first: pb.ScorePredictionsRequest) -> None:
        """Fills in the spec from its task, in place, and checks all fields of the first message."""
        wanted = first.evaluation.spec
        unknown = list(unknown_fields(first))  # those of the spec are not filled in
        filled, differing = await fill_in_named(self._registry, wanted, "evaluation.spec")
        wanted.CopyFrom(filled)
        spec.check_import(first, [*unknown, *differing])

    async def _items(self, complete: EvaluationSpec) -> list[Trace]:
        """What is to be predicted."""
        dataset = await self._datasets.get(complete.dataset)
        count = require_split(dataset, complete.split)
        require_examples(dataset, complete)
        wanted = (min(count, complete.limit) if complete.limit else count) * complete.samples
        if wanted > MAX_PREDICTIONS:
            text = f"asks for {wanted} outputs; at most {MAX_PREDICTIONS} are scored. Set `limit`."
            raise InvalidArgument.of("evaluation.spec.samples", text)
        traces = await self._datasets.traces(dataset, complete.split)
        return traces[: complete.limit] if complete.limit else traces

    async def _store(
        self, first: pb.ScorePredictionsRequest, messages: Messages, traces: list[Trace], samples: int
    ) -> Blob:
        with tempfile.TemporaryDirectory(dir=self._work) as folder:
            path = Path(folder) / "predictions.jsonl"
            with (Path(folder) / "spool").open("w+b") as spool:
                collection = Collection(traces, samples, spool)
                await _collect(collection, first, messages)
                await asyncio.to_thread(_write, collection, path)
            return await in_store(store_file, self._blobs, path)


async def _collect(collection: Collection, first: pb.ScorePredictionsRequest, messages: Messages) -> None:
    message: pb.ScorePredictionsRequest | None = first
    while message is not None:
        check_message(message)
        await asyncio.to_thread(collection.add, message.predictions)
        message = await anext(messages, None)
        if message is not None:
            spec.check_next_message(message)


def _write(collection: Collection, path: Path) -> None:
    with path.open("wb") as target:
        collection.write(target)
