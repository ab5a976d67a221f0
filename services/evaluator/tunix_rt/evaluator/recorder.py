"""Stores item scores as they come, in as few calls as the registry's pace allows."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from tunix_rt.jobs.remote import CALL_SECONDS, answer, persist
from tunix_rt.jobs.worker import ClaimedJob
from tunix_rt.v1 import job_service_pb2 as pb
from tunix_rt.v1.evaluation_pb2 import ItemScore

_BATCH_ITEMS = 500
_BATCH_BYTES = 4 * 1024 * 1024  # a score carries prompt and output


class Recorder:
    """An async context that sends scores in the background; leaving it waits until all are stored.

    An outage of the registry delays it, and only a lost lease or a refusal ends it.
    """

    def __init__(self, jobs: Any, claimed: ClaimedJob) -> None:
        self._jobs = jobs
        self._claimed = claimed
        self._waiting: list[ItemScore] = []
        self._changed = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def add(self, score: ItemScore) -> None:
        """Queues a score."""
        self._waiting.append(score)
        self._changed.set()

    def check(self) -> None:
        """Raises the error with which storing has ended, if it has."""
        if self._task and self._task.done():
            self._task.result()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._send())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task
        self._closing = True
        self._changed.set()
        if kind is None or issubclass(kind, Exception):
            await self._task
        else:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _send(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._waiting:
                size = batch_size(self._waiting)
                batch, self._waiting = self._waiting[:size], self._waiting[size:]
                await self._store(batch)
            if self._closing:
                return

    async def _store(self, batch: list[ItemScore]) -> None:
        request = pb.RecordItemScoresRequest(
            name=self._claimed.name, attempt=self._claimed.attempt, item_scores=batch
        )
        await persist(
            lambda: answer(self._jobs.RecordItemScores(request, timeout=CALL_SECONDS)),
            "RecordItemScores",
            until=self._claimed.lease_lost,
        )
        self._claimed.progress += len(batch)


def batch_size(scores: list[ItemScore]) -> int:
    """How many of the first scores fit one call; one always does."""
    room = _BATCH_BYTES
    for index, score in enumerate(scores[:_BATCH_ITEMS]):
        room -= score.ByteSize()
        if room < 0:
            return max(index, 1)
    return min(len(scores), _BATCH_ITEMS)
