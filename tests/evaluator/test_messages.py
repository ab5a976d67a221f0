"""The lines between server and engine."""

from __future__ import annotations

import pytest

from tunix_rt.evaluator.messages import (
    Cancel,
    Decoding,
    Generate,
    Item,
    ItemDone,
    Load,
    ScoreTexts,
    Text,
    TextScored,
    TextToScore,
    Token,
    decode_command,
    decode_event,
    encode,
)


def test_commands_survive_the_line() -> None:
    items = (Item(0, messages=({"role": "user", "content": "2 + 2?\nλ"},)), Item(7, tokens=(1, 2), sample=3))
    decoding = Decoding(9, 0.5, 4, 0.9, 11, min_p=0.1, repetition_penalty=1.2, stop=("Q:", "\n\n"))
    texts = ScoreTexts(
        "r1", "d", (TextToScore(3, ({"role": "user", "content": "2?"},), "λ", sample=1, prefix="A: "),)
    )
    generate = Generate("r1", "d", items, decoding, True, True, True, True)
    for command in (Load("r1", "d", "/m"), generate, texts, Cancel("r1")):
        line = encode(command)
        assert line.count(b"\n") == 1
        assert decode_command(line) == command


def test_events_survive_the_line() -> None:
    done = ItemDone("r1", 3, "Answer: 4", "stop", 10, 4, 0.25, 2, True, (Token(1, "4", -2.0),))
    tokens = (Token(4, "", -0.5), Token(9, "é", -1e-3))
    text = Text("r1", 3, "é", 2, sample=1, tokens=tokens)
    scored = TextScored("r1", 3, 1, -1.75, 2, False, (-1.5, -0.25), 7)
    for event in (done, text, scored):
        assert decode_event(encode(event)) == event


@pytest.mark.parametrize(
    "line", [b"", b"warming up\n", b"[]\n", b'{"kind":"Nothing"}\n', b'{"kind":"Cancel"}\n', b'"\xff"\n']
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a message"):
        decode_event(line)
    with pytest.raises(ValueError, match="not a message"):
        decode_command(line)


def test_an_event_is_no_command() -> None:
    with pytest.raises(ValueError, match="is no command"):
        decode_command(encode(ItemDone("r1", 3, "", "stop", 10, 4, 0.25)))
