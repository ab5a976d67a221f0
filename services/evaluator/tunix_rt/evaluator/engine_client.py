"""The server's side of the engine: starts it when needed, talks to it, and survives its crashes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunix_rt.evaluator.chunks import chunks
from tunix_rt.evaluator.engine_process import EngineProcess, ItemEvent
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
    """Generates with an engine process, which it starts with the first request and after a crash.

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
    ) -> AsyncGenerator[ItemEvent]:
        """Yields what becomes of the items, last Finished; with `stream`, also text as it appears.

        The items are read a part at a time, the next part while the engine still has one before it. With
        `reuse`, outputs come from the engine's cache where it has them, and are kept there.
        Closing the generator stops the items in the engine. Raises FailedPrecondition, reason
        MODEL_INVALID, and Unavailable, reason ENGINE_FAILED, if the engine ends.
        """
        process = await self._running()
        request = f"r{next(self._numbers)}"
        events = process.open(request)
        try:
            process.send(model.load(request))
            parts, more, open_items = chunks(items), True, 0
            part: tuple[Item, ...] = ()
            while True:
                while more and open_items <= len(part):
                    part, more = next(parts)
                    open_items += len(part)
                    process.send(Generate(request, model.name, part, decoding, stream, reuse, more))
                event = await events.get()
                open_items -= isinstance(event, ItemDone | ItemFailed)
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
