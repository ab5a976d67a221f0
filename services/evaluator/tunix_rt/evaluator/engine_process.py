"""A running engine process, as the server holds it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping

from tunix_rt.evaluator.messages import (
    Alive,
    Command,
    Event,
    Failed,
    Finished,
    ItemDone,
    ItemFailed,
    Loaded,
    Ready,
    Text,
    TextScored,
    decode_event,
    encode,
)
from tunix_rt.jobs.child import Exit
from tunix_rt.rpc.errors import ApiError, Reason, Unavailable
from tunix_rt.rpc.telemetry import get_logger

MODULE = "tunix_rt.evaluator.engine"
STOP_SECONDS = 5.0
_LINE_BYTES = 64 * 1024 * 1024
_TAIL_LINES = 20

ItemEvent = Text | ItemDone | ItemFailed | Finished
TextEvent = TextScored | ItemFailed | Finished
RequestEvents = asyncio.Queue[ItemEvent | TextScored | Loaded | Failed | ApiError]


class EngineProcess:
    """A running engine, with a queue of events for each open request."""

    def __init__(self, process: asyncio.subprocess.Process, silence: Callable[[], float]) -> None:
        self._process = process
        self._silence = silence
        self._heard = time.monotonic()
        self._requests: dict[str, RequestEvents] = {}
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._killed_for = ""
        self.ended = False
        self._watch = asyncio.create_task(self._watched())
        self._alarm = asyncio.create_task(self._watch_silence())

    @classmethod
    async def start(cls, environment: Mapping[str, str], silence: Callable[[], float]) -> EngineProcess:
        """Starts an engine that dies with this process."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tunix_rt.jobs.launch", str(os.getpid()), MODULE),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        get_logger().info("engine started", pid=process.pid)
        return cls(process, silence)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def open_requests(self) -> int:
        """How many requests have not ended."""
        return len(self._requests)

    def open(self, request: str) -> RequestEvents:
        """The queue of a new request's events."""
        events: RequestEvents = asyncio.Queue()
        if not self._requests:
            self._heard = time.monotonic()
        self._requests[request] = events
        return events

    def close(self, request: str) -> bool:
        """Forgets a request; whether the engine still works on it."""
        return self._requests.pop(request, None) is not None and not self.ended

    def send(self, command: Command) -> None:
        """Gives a command to the engine; its end is told to every open request."""
        assert self._process.stdin
        if not self._process.stdin.is_closing():
            self._process.stdin.write(encode(command))

    async def stop(self) -> None:
        """Closes the engine's input, and kills it if it does not end."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.shield(self._watch)
        except TimeoutError:
            self._kill("it did not stop")
            await self._watch

    async def _watched(self) -> None:
        """Hands out events until the engine ends, then fails what is open."""
        errors = asyncio.create_task(self._read_errors())
        try:
            await self._read_events()
        except ValueError as error:  # a line that is no event, or one that is too long
            self._kill(f"its output was wrong: {error}")
        await errors
        how = Exit(await self._process.wait()).text
        self.ended = True
        self._alarm.cancel()
        tail = "\n".join(self._tail)
        get_logger().info("engine ended", pid=self.pid, how=how, open_requests=len(self._requests))
        for events in self._requests.values():
            text = f"The engine {how}{self._killed_for}. The end of its log:\n{tail[-4000:]}"
            events.put_nowait(Unavailable(Reason.ENGINE_FAILED, text, {"exit": how}))
        self._requests.clear()

    async def _read_events(self) -> None:
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            if not line.endswith(b"\n"):
                return  # it died while it wrote
            self._heard = time.monotonic()
            event: Event = decode_event(line)
            if isinstance(event, Alive):
                continue
            if isinstance(event, Ready):
                get_logger().info("engine ready", pid=self.pid, jax=event.jax, device=event.device)
                continue
            events = self._requests.get(event.request)
            if events is None:
                continue
            events.put_nowait(event)
            if isinstance(event, Finished | Failed):
                del self._requests[event.request]

    async def _watch_silence(self) -> None:
        """Kills an engine that has work and says nothing."""
        while True:
            left = self._silence() - (time.monotonic() - self._heard)
            if left <= 0 and self._requests:
                self._kill(f"it had said nothing for {self._silence():g} seconds")
                return
            await asyncio.sleep(min(max(left, 0.1), 1.0))

    def _kill(self, reason: str) -> None:
        self._killed_for = f" because {reason}"
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _read_errors(self) -> None:
        assert self._process.stderr
        while line := await self._process.stderr.readline():
            text = line.decode(errors="replace").rstrip()
            self._tail.append(text)
            get_logger().info("engine", text=text[:2000])
