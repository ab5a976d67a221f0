"""Which waiting prompts start next; no clock, no device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Prompt:
    """A prompt of a request, as tokens; `number` and `sample` name it in the request.

    `key` is that of its output in the cache, empty if it is not kept.
    """

    request: str
    number: int
    tokens: tuple[int, ...]
    sample: int = 0
    key: bytes = b""


@dataclass
class _Line:
    waiting: deque[Prompt] = field(default_factory=deque)
    running: int = 0
    open: bool = True


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
        """The requests that have not ended, the oldest first."""
        return tuple(self._lines)

    @property
    def working(self) -> bool:
        """Whether a prompt waits or runs; a request may also wait for more prompts."""
        return any(line.waiting or line.running for line in self._lines.values())

    def add(self, request: str, prompts: Sequence[Prompt], *, more: bool = False) -> bool:
        """Queues prompts of a request, the last ones unless `more` follow.

        Returns whether the request has ended: nothing of it waits or runs, and nothing follows.
        """
        line = self._lines.setdefault(request, _Line())
        if not line.open:
            raise ValueError(f"request {request} is queued already")
        line.open = more
        ordered = sorted(
            [*line.waiting, *prompts], key=lambda each: (-len(each.tokens), each.number, each.sample)
        )
        line.waiting = deque(ordered)
        return self._ended(request)

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
        self._lines[request].running -= 1
        return self._ended(request)

    def drop(self, request: str) -> None:
        """Forgets a request, whatever waits or runs."""
        self._lines.pop(request, None)

    def _ended(self, request: str) -> bool:
        line = self._lines[request]
        if line.waiting or line.running or line.open:
            return False
        del self._lines[request]
        return True
