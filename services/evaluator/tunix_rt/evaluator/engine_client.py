"""The server's side of the engine: starts it when needed, talks to it, and survives its crashes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from tunix_rt.evaluator.chunks import chunks
from tunix_rt.evaluator.engine_process import EngineProcess, ItemEvent, TextEvent
from tunix_rt.evaluator.messages import (
    Cancel,
    Decoding,
    Failed,
    Finished,
    Generate,
    Item,
    ItemDone,
    ItemFailed,
    Load,
    Loaded,
    ScoreTexts,
    Text,
    TextScored,
    TextToScore,
)
from tunix_rt.rpc.errors import ApiError, FailedPrecondition, Internal, Reason
from tunix_rt.rpc.telemetry import get_logger

SILENCE_SECONDS = 900.0  # loading and compiling are silent, and a large program takes minutes to compile


@dataclass(frozen=True)
class EngineModel:
    """Weights for the engine: a directory in Hugging Face layout and the digest of its files.

    With `adapter`, a directory in PEFT's layout, `digest` is that of the two together and `base` that of
    `directory`. The engine holds the matrices of `directory` as `weight_type`.
    """

    directory: Path
    digest: str
    base: str = ""
    adapter: Path | None = None
    weight_type: str = "float32"

    @property
    def name(self) -> str:
        """What the engine calls it: its digest, and the weight type where that is not float32."""
        return self._typed(self.digest)

    def load(self, request: str) -> Load:
        """The command that loads it."""
        adapter = str(self.adapter) if self.adapter else ""
        base = self._typed(self.base) if self.base else ""
        return Load(request, self.name, str(self.directory), base, adapter, self.weight_type)

    def _typed(self, digest: str) -> str:
        return digest if self.weight_type == "float32" else f"{digest}-{self.weight_type}"


class EngineClient:
    """Generates and scores texts with an engine process, started with the first request and after a crash.

    `environment` is added to that of this process. An engine that says nothing for `silence_seconds`
    while it has work is killed. Use it from the main thread's event loop: the engine dies with the
    thread that started it.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        self.silence_seconds = silence_seconds
        self._environment = dict(environment or {})
        self._process: EngineProcess | None = None
        self._starting = asyncio.Lock()
        self._numbers = itertools.count(1)

    @property
    def pid(self) -> int | None:
        """The number of the engine's process, if one runs."""
        return self._process.pid if self._process and not self._process.ended else None

    async def generate(
        self,
        model: EngineModel,
        items: Iterable[Item],
        *,
        decoding: Decoding,
        stream: bool,
        reuse: bool = False,
        log_probabilities: bool = False,
    ) -> AsyncGenerator[ItemEvent]:
        """Yields what becomes of the items, last Finished; with `stream`, also text as it appears.

        The items are read a part at a time, the next part while the engine still has one before it. With
        `reuse`, outputs come from the engine's cache where it has them, and are kept there, those with
        log-probabilities apart.
        Closing the generator stops the items in the engine. Raises FailedPrecondition, reason
        MODEL_INVALID, and Unavailable, reason ENGINE_FAILED, if the engine ends.
        """
        request = self._next_request()
        commands = (
            Generate(request, model.name, part, decoding, stream, reuse, more, log_probabilities)
            for part, more in chunks(items)
        )
        async with aclosing(self._answers(model, request, commands)) as events:
            async for event in events:
                assert not isinstance(event, TextScored)
                yield event

    async def score_texts(
        self, model: EngineModel, items: Sequence[TextToScore]
    ) -> AsyncGenerator[TextEvent]:
        """Yields how probable each text is, in any order, last Finished; closing and errors as `generate`.

        Neighbouring texts after the same messages share one reading of them.
        """
        request = self._next_request()
        command = ScoreTexts(request, model.name, tuple(items))
        async with aclosing(self._answers(model, request, iter((command,)))) as events:
            async for event in events:
                assert not isinstance(event, Text | ItemDone)
                yield event

    def _next_request(self) -> str:
        return f"r{next(self._numbers)}"

    async def _answers(
        self, model: EngineModel, request: str, commands: Iterator[Generate | ScoreTexts]
    ) -> AsyncGenerator[ItemEvent | TextScored]:
        """Loads the model, gives the commands of the request one by one, and yields its events."""
        process = await self._running()
        events = process.open(request)
        try:
            process.send(model.load(request))
            more, open_items, size = True, 0, 0
            while True:
                while more and open_items <= size:
                    command = next(commands)
                    size, more = len(command.items), isinstance(command, Generate) and command.more
                    open_items += size
                    process.send(command)
                event = await events.get()
                open_items -= isinstance(event, ItemDone | TextScored | ItemFailed)
                if isinstance(event, ApiError):
                    raise event
                if isinstance(event, Failed):
                    raise _error(event)
                if isinstance(event, Loaded):
                    get_logger().info("model loaded", digest=model.name, seconds=event.seconds)
                    continue
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            if process.close(request):
                process.send(Cancel(request))

    @property
    def open_requests(self) -> int:
        """How many requests the engine works on."""
        return self._process.open_requests if self._process else 0

    async def stop(self) -> None:
        """Ends the engine, if one runs; requests in flight fail."""
        if self._process:
            await self._process.stop()

    async def _running(self) -> EngineProcess:
        async with self._starting:
            if self._process is None or self._process.ended:
                self._process = await EngineProcess.start(self._environment, lambda: self.silence_seconds)
            return self._process


def _error(event: Failed) -> ApiError:
    if event.reason in (Reason.MODEL_INVALID, Reason.MODEL_TOO_LARGE):
        return FailedPrecondition(Reason(event.reason), event.message, event.figures)
    return Internal(Reason.INTERNAL, event.message, {"reason": event.reason})
