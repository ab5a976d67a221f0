"""Text of tokens that arrive bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_BROKEN = "\ufffd"  # what a decoder writes for bytes that are no whole character


class TextStream:
    """Turns growing token ids into text without ever splitting a character.

    `decode` maps ids to text. The pieces, joined, are the text of all ids. A piece is decoded together
    with the ids of the piece before it, because a decoder may treat the first token of a text in another way.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._context = 0  # where the last piece that was given out begins
        self._given = 0  # how many ids are given out

    def add(self, ids: Sequence[int]) -> str:
        """Takes new ids and returns the text that is certain now; may be empty."""
        self._ids.extend(ids)
        text = self._new_text()
        if not text or text.endswith(_BROKEN):
            return ""
        self._context, self._given = self._given, len(self._ids)
        return text

    def finish(self) -> str:
        """The rest of the text, broken characters and all."""
        text = self._new_text()
        self._context = self._given = len(self._ids)
        return text

    def _new_text(self) -> str:
        before = self._decode(self._ids[self._context : self._given])
        return self._decode(self._ids[self._context :])[len(before) :]
