"""Tokens with their texts and log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.evaluator.messages import Token
from tunix_rt.evaluator.token_log import TokenLog


def decode(ids: Sequence[int]) -> str:
    """Each id is a byte."""
    return bytes(ids).decode(errors="replace")


def test_tokens_are_told_once() -> None:
    log = TokenLog(decode)
    log.add(b"ab", [-1.0, -2.0])
    assert log.take() == (Token(97, "a", -1.0), Token(98, "b", -2.0))
    log.add(b"c", [-3.0])
    assert log.finish() == (Token(99, "c", -3.0),)


def test_the_token_that_completes_a_character_has_it() -> None:
    log = TokenLog(decode)
    log.add("é!".encode(), [-1.0, -2.0, -3.0])
    assert [token.text for token in log.take()] == ["", "é", "!"]


def test_a_broken_end_is_the_last_tokens() -> None:
    log = TokenLog(decode)
    log.add("aé".encode()[:2], [-1.0, -2.0])
    assert [token.text for token in log.finish()] == ["a", "\ufffd"]


def test_only_as_many_tokens_as_ids() -> None:
    log = TokenLog(decode)
    log.add(b"a", [-1.0, -2.0])
    assert len(log.finish()) == 1
