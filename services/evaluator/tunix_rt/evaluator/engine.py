"""The engine process: keeps models in memory, and generates and scores texts for all requests at once.

    python -m tunix_rt.evaluator.engine

Reads commands from standard input and writes events to standard output, one JSON object a line (see
`messages`); everything else that is printed goes to standard error. Ends when its input ends.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import jax

from tunix_rt.evaluator.memory import NoRoomError, TooLargeError, memory_limit, size_text
from tunix_rt.evaluator.messages import (
    Alive,
    Cancel,
    Command,
    Event,
    Failed,
    Generate,
    Load,
    Loaded,
    Ready,
    ScoreTexts,
    decode_command,
    encode,
)
from tunix_rt.evaluator.models import Residents
from tunix_rt.evaluator.output_cache import OutputCache
from tunix_rt.jobs.standard_streams import take_standard_streams
from tunix_rt.lm.compile_cache import use_compile_cache
from tunix_rt.lm.errors import ModelError


class Engine:
    """Does the commands, and one round of decoding after another while there is work.

    `send` takes events; weights and caches take at most `memory_limit` bytes. A command waits while the
    models in use leave its model no room. Without `outputs`, none is reused.
    """

    def __init__(
        self, send: Callable[[Event], None], *, memory_limit: int, outputs: OutputCache | None = None
    ) -> None:
        self._send = send
        self._residents = Residents(memory_limit, outputs)
        self._deferred: deque[Command] = deque()

    @property
    def busy(self) -> bool:
        """Whether a request is being worked on."""
        return self._residents.busy

    def do(self, command: Command) -> None:
        """Does a command, or keeps it until there is room for it."""
        if isinstance(command, Cancel):
            self._deferred = deque(each for each in self._deferred if each.request != command.request)
            self._residents.cancel(command.request)
        elif any(each.request == command.request for each in self._deferred):
            self._deferred.append(command)
        else:
            self._try(command)

    def round(self) -> None:
        """A segment of decoding and a pack of texts for each model with work, then what waited."""
        for model in self._residents.working():
            for event in model.round():
                self._send(event)
        waiting, self._deferred = self._deferred, deque()
        for command in waiting:
            self.do(command)

    def _try(self, command: Load | Generate | ScoreTexts) -> None:
        try:
            if isinstance(command, Load):
                seconds = self._residents.load(command)
                self._send(Loaded(command.request, seconds))
            else:
                self._add(command)
        except NoRoomError:
            self._deferred.append(command)
        except TooLargeError as error:
            self._send(Failed(command.request, "MODEL_TOO_LARGE", str(error), error.figures))
        except ModelError as error:
            self._residents.cancel(command.request)  # what it has sent before
            self._send(Failed(command.request, "MODEL_INVALID", str(error)))

    def _add(self, command: Generate | ScoreTexts) -> None:
        model = self._residents.get(command.digest)
        events = model.add(command) if isinstance(command, Generate) else model.add_texts(command)
        for event in events:
            self._send(event)


def run(commands: queue.SimpleQueue[Command | None], send: Callable[[Event], None]) -> None:
    """Works until None stands in the queue."""
    limit = memory_limit(os.environ)
    print(f"models may take {size_text(limit)} of memory")  # noqa: T201
    engine = Engine(send, memory_limit=limit, outputs=_output_cache())
    told = 0.0
    while True:
        try:
            command = commands.get(block=not engine.busy)
        except queue.Empty:
            engine.round()
            if time.monotonic() - told > 1:
                told = time.monotonic()
                send(Alive())
            continue
        if command is None:
            return
        engine.do(command)


def main() -> None:
    """Serves the process that started this one."""
    source, target = take_standard_streams()
    if cache := os.environ.get("TUNIX_RT_COMPILE_CACHE"):
        use_compile_cache(cache)
    commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(source, commands), name="commands", daemon=True).start()

    def send(event: Event) -> None:
        target.write(encode(event))
        target.flush()

    try:
        send(Ready(jax=jax.__version__, device=jax.devices()[0].device_kind))
        run(commands, send)
    except BrokenPipeError:
        sys.exit("the process that reads the events is gone")


def _output_cache() -> OutputCache | None:
    folder = os.environ.get("TUNIX_RT_OUTPUT_CACHE")
    return OutputCache(Path(folder), int(os.environ["TUNIX_RT_OUTPUT_CACHE_BYTES"])) if folder else None


def _read(source: BinaryIO, commands: queue.SimpleQueue[Command | None]) -> None:
    try:
        for line in source:
            commands.put(decode_command(line))
    finally:
        commands.put(None)


if __name__ == "__main__":
    main()
