"""Text of tokens that arrive bit by bit."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tunix_rt.evaluator.text_stream import TextStream


def from_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode(errors="replace")


def test_a_character_is_never_split() -> None:
    stream = TextStream(from_bytes)
    pieces = [stream.add([byte]) for byte in "aé€😀".encode()]
    assert pieces == ["a", "", "é", "", "", "€", "", "", "", "😀"]


def test_the_end_gives_out_a_broken_character() -> None:
    stream = TextStream(from_bytes)
    assert (stream.add(list(b"a\xe2\x82")), stream.finish()) == ("", "a\ufffd")


def test_a_decoder_that_drops_the_first_space_loses_none_later() -> None:
    stream = TextStream(lambda ids: "".join(f" w{each}" for each in ids)[1:])
    assert [stream.add([1]), stream.add([2, 3]), stream.finish()] == ["w1", " w2 w3", ""]


@given(st.text(), st.lists(st.integers(1, 5), min_size=1))
def test_the_pieces_are_the_text(text: str, sizes: list[int]) -> None:
    stream, data, pieces, place = TextStream(from_bytes), text.encode(), [], 0
    while place < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(stream.add(list(data[place : place + size])))
        place += size
    assert "".join(pieces) + stream.finish() == text
