"""The training child: `python -m tunix_rt.trainer.job DIRECTORY`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tunix_rt.jobs.directory import JobDirectory, write_json
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.processes import (
    Peers,
    Seat,
    StopAsked,
    heeded,
    ignore_signals,
    process_count,
)

COMPILE_CACHE = "TUNIX_RT_COMPILE_CACHE"
COMPILE_CACHE_BYTES = "TUNIX_RT_COMPILE_CACHE_BYTES"
CORES = "TUNIX_RT_CORES"
_LOSS_SECONDS = 10.0


def main(arguments: Sequence[str]) -> int:
    """Do the job of a directory; 0 when it is done or was stopped, 1 when it failed and says why.

    SIGTERM ends it after the step it is in, with a checkpoint. An error that is not foreseen is a
    traceback in the log and leaves no outcome.
    """
    if len(arguments) != 1:
        print("usage: python -m tunix_rt.trainer.job DIRECTORY", file=sys.stderr)  # noqa: T201
        return 2
    directory = JobDirectory(Path(arguments[0]))
    if cores := os.environ.get(CORES):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    if seat := Seat.of(os.environ):
        return _follow(directory, seat)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    directory.outcome.unlink(missing_ok=True)
    return _end(directory, _lead(directory, stop.is_set))


def _lead(directory: JobDirectory, stop_asked: StopAsked) -> dict[str, Any]:
    """The outcome of the job, done by this process and, where the spec asks for them, others."""
    count = process_count(directory)
    if count == 1:
        return _outcome(directory, stop_asked, join=lambda: None)
    try:
        peers = Peers.start(directory, count)
    except TrainingFailure as failure:
        return _failed(failure.reason, failure.message)
    losses: list[TrainingFailure] = []

    def on_loss(failure: TrainingFailure) -> None:
        losses.append(failure)
        # What waits for the lost process may wait for ever, and cannot be interrupted.
        timer = threading.Timer(_LOSS_SECONDS, lambda: os._exit(_end(directory, _lost(failure))))
        timer.daemon = True
        timer.start()

    peers.watch(on_loss)
    try:
        outcome = _outcome(directory, peers.told(stop_asked), join=peers.seat.join)
    except Exception:
        if not peers.lost.wait(_LOSS_SECONDS):
            raise
        outcome = _lost(losses[0])
    if outcome["state"] == "failed":
        peers.kill()
        # The goodbye of jax.distributed would wait for those that are gone.
        os._exit(_end(directory, outcome))
    peers.let_go()
    return outcome


def _follow(directory: JobDirectory, seat: Seat) -> int:
    """Do this process's part of a job that another one leads."""
    ignore_signals()
    pipe = sys.stdin.buffer
    outcome = _outcome(directory, heeded(pipe), join=seat.join)
    if outcome["state"] == "failed":
        return 1
    pipe.read()  # until the first process has written everything
    return 0


def _end(directory: JobDirectory, outcome: dict[str, Any]) -> int:
    write_json(directory.outcome, outcome)
    _report(" ".join(str(value) for value in outcome.values()))
    return 1 if outcome["state"] == "failed" else 0


def _outcome(directory: JobDirectory, stop_asked: StopAsked, *, join: Callable[[], None]) -> dict[str, Any]:
    # Imported here because they take seconds, and SIGTERM must be heeded from the start.
    from jax.errors import JaxRuntimeError

    from tunix_rt.lm.compile_cache import use_compile_cache
    from tunix_rt.lm.errors import ModelError

    if cache := os.environ.get(COMPILE_CACHE):
        use_compile_cache(cache, max_bytes=int(os.environ.get(COMPILE_CACHE_BYTES, 0)))
    join()
    from tunix_rt.trainer.training import train  # makes arrays, which must not be before joining

    try:
        return train(directory, stop_asked, report=_report)
    except TrainingFailure as failure:
        return _failed(failure.reason, failure.message, retryable=failure.retryable)
    except ModelError as error:
        return _failed("MODEL_INVALID", str(error))
    except JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        remedy = "Lower batch_size or max_length, set remat, or train adapters (lora)."
        return _failed("CHILD_FAILED", f"The device has too little memory. {remedy} ({error})")


def _failed(reason: str, message: str, *, retryable: bool = False) -> dict[str, Any]:
    return {"state": "failed", "reason": reason, "message": message, "retryable": retryable}


def _lost(failure: TrainingFailure) -> dict[str, Any]:
    return _failed(failure.reason, failure.message, retryable=failure.retryable)


def _report(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
