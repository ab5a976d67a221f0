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
from typing import BinaryIO

import jax

from tunix_rt.evaluator.messages import (
    Alive,
    Cancel,
    Command,
    Event,
    Failed,
    Finished,
    Generate,
    ItemFailed,
    Load,
    Loaded,
    Ready,
    ScoreTexts,
    decode_command,
    encode,
)
from tunix_rt.evaluator.residents import NoRoomError, Residents
from tunix_rt.evaluator.standard_streams import take_standard_streams
from tunix_rt.lm.compile_cache import use_compile_cache
from tunix_rt.lm.errors import ModelError


class Engine:
    """Does the commands, and one round of decoding after another while there is work.

    `send` takes events. A command for which no model can be given up yet waits.
    """

    def __init__(self, send: Callable[[Event], None], *, resident_limit: int = 2) -> None:
        self._send = send
        self._residents = Residents(resident_limit)
        self._deferred: deque[Command] = deque()

    @property
    def busy(self) -> bool:
        """Whether a request is being worked on."""
        return self._residents.busy

    def do(self, command: Command) -> None:
        """Does a command, or keeps it until there is room for its model."""
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
                seconds = self._residents.load(command.digest, command.directory)
                self._send(Loaded(command.request, seconds))
            else:
                self._add(command)
        except NoRoomError:
            self._deferred.append(command)
        except ModelError as error:
            self._send(Failed(command.request, "MODEL_INVALID", str(error)))

    def _add(self, command: Generate | ScoreTexts) -> None:
        model = self._residents.get(command.digest)
        refused = model.add(command) if isinstance(command, Generate) else model.add_texts(command)
        for item, message in refused:
            self._send(ItemFailed(command.request, item.number, message, item.sample))
        if len(refused) == len(command.items):
            self._send(Finished(command.request, 0, 0.0))


def run(commands: queue.SimpleQueue[Command | None], send: Callable[[Event], None]) -> None:
    """Works until None stands in the queue."""
    engine = Engine(send)
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


def _read(source: BinaryIO, commands: queue.SimpleQueue[Command | None]) -> None:
    try:
        for line in source:
            commands.put(decode_command(line))
    finally:
        commands.put(None)


if __name__ == "__main__":
    main()
