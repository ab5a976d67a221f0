"""Compares formulas as a child of the server: JSON lines on its standard streams, one answer a request.

It sets its own limits: the kernel ends it when a request has taken its seconds of CPU time, and memory beyond
the limit cannot be had. It ends with its input.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from dataclasses import asdict
from typing import Any, BinaryIO

from tunix_rt.answers.equivalence import equivalent
from tunix_rt.answers.same_formula import same_formula
from tunix_rt.answers.score import score_output
from tunix_rt.jobs.standard_streams import take_standard_streams

_OPEN_FILES = 16


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answers requests until the input ends or memory does.

    A request is `{"function": …, "arguments": {…}, "cpu_seconds": …}`; an answer is `{"value": …}`,
    `{"error": …}` or, as the last one, `{"out_of_memory": true}`.
    """
    while True:
        try:
            line = source.readline()
            if not line:
                return
            request = json.loads(line)
            signal.setitimer(signal.ITIMER_PROF, request["cpu_seconds"])
            answer = {"value": _call(request["function"], request["arguments"])}
        except MemoryError:
            answer = {"out_of_memory": True}
        except Exception as error:  # it answers for this pair alone; the next one may be fine
            answer = {"error": f"{type(error).__name__}: {error}"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        target.write(json.dumps(answer).encode() + b"\n")
        target.flush()
        if "out_of_memory" in answer:
            return


def _call(function: str, arguments: dict[str, Any]) -> object:
    if function == "equivalent":
        return equivalent(**arguments, formulas=same_formula)
    return asdict(score_output(**arguments, formulas=same_formula))


def main() -> None:
    """Sets the limits and serves. The argument is the limit of memory in bytes."""
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(*take_standard_streams())


if __name__ == "__main__":
    main()
