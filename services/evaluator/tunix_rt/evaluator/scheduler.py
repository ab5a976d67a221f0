"""Which waiting prompts start next; no clock, no device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """A prompt of a request, as tokens; `number` and `sample` name it in the request."""

    request: str
    number: int
    tokens: tuple[int, ...]
    sample: int = 0


@dataclass
class _Line:
    waiting: deque[Prompt]
    running: int = 0


class Scheduler:
    """The queues of the requests that share the rows of one model.

    A free row goes to the request that has the fewest rows, so a short request need not wait for a
    long one; among equals the older request comes first. Within a request the longest prompts start
    first, so that no long one is left to run alone at the end.
    """

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    @property
    def requests(self) -> tuple[str, ...]:
        """The requests with prompts that wait or run, the oldest first."""
        return tuple(self._lines)

    def add(self, request: str, prompts: Sequence[Prompt]) -> None:
        """Queues the prompts of a new request."""
        if request in self._lines:
            raise ValueError(f"request {request} is queued already")
        if prompts:
            ordered = sorted(prompts, key=lambda each: (-len(each.tokens), each.number, each.sample))
            self._lines[request] = _Line(deque(ordered))

    def take(self, free: int, fits: Callable[[Sequence[Prompt]], bool] | None = None) -> list[Prompt]:
        """Takes at most `free` prompts, which run from now on; one with which they do not fit ends it.

        A prompt that has to wait for memory is not overtaken.
        """
        taken: list[Prompt] = []
        while len(taken) < free:
            ready = [line for line in self._lines.values() if line.waiting]
            if not ready:
                break
            line = min(ready, key=lambda each: each.running)
            if fits and not fits([*taken, line.waiting[0]]):
                break
            line.running += 1
            taken.append(line.waiting.popleft())
        return taken

    def retire(self, request: str) -> bool:
        """Notes that a row of the request has ended; returns whether the request has ended with it."""
        line = self._lines[request]
        line.running -= 1
        if line.waiting or line.running:
            return False
        del self._lines[request]
        return True

    def drop(self, request: str) -> None:
        """Forgets a request, whatever waits or runs."""
        self._lines.pop(request, None)
