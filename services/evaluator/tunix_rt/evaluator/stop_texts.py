"""Texts that end an output; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from tunix_rt.evaluator.text_stream import TextStream

_REASONING_TAG = re.compile(r"<(/?)(?:reasoning|think|thinking)>", re.IGNORECASE)
_OPEN_AT_END = re.compile(r"<(?:reasoning|think|thinking)>\s*\Z", re.IGNORECASE)


class StoppedText:
    """Text of tokens that arrive bit by bit, up to a stop text that does not begin inside reasoning.

    `decode` maps ids to text; with `in_reasoning`, the prompt has begun the reasoning. `count` is how
    many ids the output has, those of the stop text included; `stopped`, whether it has come.
    The output does not depend on how the ids are cut into pieces.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], stops: Sequence[str], *, in_reasoning: bool = False
    ) -> None:
        self._stream = TextStream(decode)
        self._stops = tuple(stops)
        self._in_reasoning = in_reasoning
        self._text = ""
        self._given = 0
        self.count = 0
        self.stopped = False

    def add(self, ids: Sequence[int]) -> str:
        """Takes new ids and returns the text that is certain now; may be empty."""
        self.keep(ids)
        return self._give(len(self._text) if self.stopped else len(self._text) - self._held())

    def keep(self, ids: Sequence[int]) -> str:
        """Takes new ids whose text a later call is to return."""
        if not self._stops:
            self.count += len(ids)
            self._text += self._stream.add(ids)
            return ""
        for each in ids:
            if self.stopped:
                break
            self.count += 1
            self._take(self._stream.add([each]))
        return ""

    def finish(self) -> str:
        """The rest of the text."""
        if not self.stopped:
            self._take(self._stream.finish())
        return self._give(len(self._text))

    def _take(self, text: str) -> None:
        self._text += text
        place = find_stop(self._text, self._stops, in_reasoning=self._in_reasoning) if text else None
        if place is not None:
            self._text, self.stopped = self._text[:place], True

    def _give(self, end: int) -> str:
        text = self._text[self._given : end]
        self._given = max(self._given, end)
        return text

    def _held(self) -> int:
        """How many characters at the end may be the beginning of a stop text."""
        return max((_overlap(self._text, stop) for stop in self._stops), default=0)


def find_stop(text: str, stops: Sequence[str], *, in_reasoning: bool = False) -> int | None:
    """Where the stop text begins that is complete first, of those that do not begin inside reasoning."""
    found = [
        (start + len(stop), start)
        for stop in stops
        for start in _occurrences(text, stop, in_reasoning=in_reasoning)
    ]
    return min(found)[1] if found else None


def ends_in_reasoning(prompt: str) -> bool:
    """Whether a prompt ends with the tag that opens reasoning."""
    return _OPEN_AT_END.search(prompt) is not None


def _occurrences(text: str, stop: str, *, in_reasoning: bool) -> Iterator[int]:
    for begin, end in _visible(text, in_reasoning=in_reasoning):
        start = text.find(stop, begin, end + len(stop) - 1)
        if start >= 0:
            yield start


def _visible(text: str, *, in_reasoning: bool) -> Iterator[tuple[int, int]]:
    """The parts outside reasoning, the tags themselves included."""
    begin, inside = 0, in_reasoning
    for tag in _REASONING_TAG.finditer(text):
        closing = bool(tag.group(1))
        if not closing and not inside:
            yield begin, tag.end()
        elif closing and inside:
            begin = tag.start()
        inside = not closing
    if not inside:
        yield begin, len(text)


def _overlap(text: str, stop: str) -> int:
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
