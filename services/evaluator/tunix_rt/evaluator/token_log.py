"""The tokens of an output with their log-probabilities, as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tunix_rt.evaluator.messages import Token
from tunix_rt.evaluator.text_stream import TextStream


class TokenLog:
    """Tokens that wait to be told. Their texts, joined, are the text of all ids.

    A token whose bytes begin a character has no text; that which completes it has the whole one.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._stream = TextStream(decode)
        self._waiting: list[Token] = []

    def add(self, ids: Sequence[int], log_probabilities: Sequence[float]) -> None:
        """Takes new tokens; further log-probabilities than ids are left out."""
        for token, value in zip(ids, log_probabilities, strict=False):
            self._waiting.append(Token(token, self._stream.add([token]), value))

    def take(self) -> tuple[Token, ...]:
        """The tokens that came since the last call."""
        taken, self._waiting = tuple(self._waiting), []
        return taken

    def finish(self) -> tuple[Token, ...]:
        """The tokens that came since the last call, the last with the rest of the text."""
        rest = self._stream.finish()
        if rest and self._waiting:
            last = self._waiting[-1]
            self._waiting[-1] = replace(last, text=last.text + rest)
        return self.take()
