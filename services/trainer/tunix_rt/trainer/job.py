"""The training child: `python -m tunix_rt.trainer.job DIRECTORY`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunix_rt.jobs.directory import JobDirectory, write_json
from tunix_rt.trainer.failure import TrainingFailure

COMPILE_CACHE = "TUNIX_RT_COMPILE_CACHE"


def main(arguments: Sequence[str]) -> int:
    """Do the job of a directory; 0 when it is done or was stopped, 1 when it failed and says why.

    SIGTERM ends it after the step it is in, with a checkpoint. An error that is not foreseen is a
    traceback in the log and leaves no outcome.
    """
    if len(arguments) != 1:
        print("usage: python -m tunix_rt.trainer.job DIRECTORY", file=sys.stderr)  # noqa: T201
        return 2
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    directory = JobDirectory(Path(arguments[0]))
    directory.outcome.unlink(missing_ok=True)
    outcome = _outcome(directory, stop)
    write_json(directory.outcome, outcome)
    _report(" ".join(str(value) for value in outcome.values()))
    return 1 if outcome["state"] == "failed" else 0


def _outcome(directory: JobDirectory, stop: threading.Event) -> dict[str, Any]:
    # Imported here because they take seconds, and SIGTERM must be heeded from the start.
    from jax.errors import JaxRuntimeError

    from tunix_rt.lm.compile_cache import use_compile_cache
    from tunix_rt.lm.errors import ModelError
    from tunix_rt.trainer.training import train

    if cache := os.environ.get(COMPILE_CACHE):
        use_compile_cache(cache)
    try:
        return train(directory, stop.is_set, report=_report)
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


def _report(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
