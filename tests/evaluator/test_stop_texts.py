"""Texts that end an output."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunix_rt.evaluator.stop_texts import StoppedText, ends_in_reasoning, find_stop


def from_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode(errors="replace")


@pytest.mark.parametrize(
    ("text", "stops", "place"),
    [
        ("The answer is 4.\nQuestion: 5", ["\nQuestion:"], 16),
        ("nothing here", ["Question:"], None),
        ("a b", [], None),
        ("ab", ["abc", "b"], 1),  # `b` is complete before `abc` could be
        ("abc", ["bc", "abc"], 0),
        ("<reasoning>a\n\nb", ["\n\n"], None),
        ("<reasoning>a\n\nb</reasoning>c\n\nd", ["\n\n"], 28),
        ("<THINK>a. b</think> c. d", ["."], 21),
        ("x. <think>a.", ["."], 1),
        ("<reasoning>a</reasoning>", ["</reasoning>"], 12),
        ("a<reasoning>", ["<reasoning>"], 1),
        ("<think>a</think>b<think>c.</think>.", ["."], 34),
        ("no opening</think>.", ["."], 18),
    ],
)
def test_a_stop_counts_outside_of_reasoning(text: str, stops: list[str], place: int | None) -> None:
    assert find_stop(text, stops) == place


def test_reasoning_that_the_prompt_began_is_reasoning() -> None:
    assert ends_in_reasoning("user: 2 + 2?\nassistant: <think>\n")
    assert not ends_in_reasoning("Write <think> first.")
    assert find_stop("a. b</think>c. d", ["."], in_reasoning=True) == 13


def test_the_text_ends_before_the_stop_and_its_tokens_count() -> None:
    text = StoppedText(from_bytes, ["END"])
    assert text.keep(list(b"one E")) == ""
    text.keep(list(b"ND two"))
    assert (text.finish(), text.stopped, text.count) == ("one ", True, 7)


def test_a_beginning_of_a_stop_is_held_back_until_it_is_none() -> None:
    text = StoppedText(from_bytes, ["END"])
    assert [text.add(list(piece)) for piece in (b"a E", b"N", b"X", b"EN")] == ["a ", "", "ENX", ""]
    assert (text.finish(), text.stopped) == ("EN", False)


def test_without_stops_all_text_comes_out() -> None:
    text = StoppedText(from_bytes, [])
    assert (text.keep(list(b"one ")), text.add(list(b"two")), text.finish()) == ("", "one two", "")
    assert text.count == 7


@given(
    st.text(alphabet="ab.€<think>/", max_size=40),
    st.lists(st.text(alphabet="ab.<t", min_size=1, max_size=3), max_size=3),
    st.lists(st.integers(1, 6), min_size=1),
)
def test_how_tokens_arrive_does_not_change_the_output(text: str, stops: list[str], sizes: list[int]) -> None:
    def run(sizes: list[int], *, stream: bool) -> tuple[str, bool, int]:
        stopped, data, pieces, place = StoppedText(from_bytes, stops), text.encode(), [], 0
        while place < len(data):
            size = sizes[len(pieces) % len(sizes)]
            part = list(data[place : place + size])
            pieces.append(stopped.add(part) if stream else stopped.keep(part))
            place += size
        return "".join(pieces) + stopped.finish(), stopped.stopped, stopped.count

    whole = run([len(text.encode()) or 1], stream=False)
    assert run(sizes, stream=False) == whole
    assert run(sizes, stream=True) == whole
