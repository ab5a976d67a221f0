"""Conversations of several turns: how they are read, stored and refused."""

from __future__ import annotations

import json

import pytest

from tunix_rt.traces.parse import parse_record
from tunix_rt.traces.text import completion_text
from tunix_rt.traces.trace import ChatMessage, Trace, TraceError, canonical_json, questions


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


LONG = turns(
    ("system", "Be kind."), ("user", "2+2?"), ("assistant", "4"), ("user", "Sure?"), ("assistant", "Yes.")
)


def test_a_chat_of_several_answers_stays_a_conversation() -> None:
    trace = parse_record({"id": "c", "messages": LONG, "meta": {"from": "x"}})
    assert trace.messages == tuple(ChatMessage(turn["role"], turn["content"]) for turn in LONG)
    assert (trace.prompt, trace.completion, trace.final_answer) == ("Sure?", "", "")
    assert trace.meta == {"from": "x"}


def test_a_chat_of_one_answer_becomes_a_pair() -> None:
    trace = parse_record({"messages": LONG[:3]})
    assert (trace.prompt, trace.completion, trace.messages) == ("2+2?", "4", ())


def test_a_conversation_comes_back_from_its_canonical_line() -> None:
    trace = parse_record({"messages": LONG})
    record = json.loads(canonical_json(trace, "train"))
    assert record.pop("split") == "train"
    assert parse_record(record) == trace


def test_a_short_conversation_with_its_prompt_stays_one() -> None:
    short = turns(("user", "2+2?"), ("assistant", "4"))
    trace = parse_record({"prompt": "2+2?", "messages": short})
    assert len(trace.messages) == 2


def test_a_trace_without_messages_has_the_bytes_it_always_had() -> None:
    assert canonical_json(Trace("t", "p", final_answer="4"), "train") == (
        b'{"aliases":[],"answer_type":"","completion":"","final_answer":"4","id":"t","meta":{},"prompt":"p",'
        b'"split":"train","steps":[]}'
    )


def test_conversations_that_end_alike_have_different_ids() -> None:
    other = [{**LONG[0], "content": "Be brief."}, *LONG[1:]]
    assert parse_record({"messages": LONG}).id != parse_record({"messages": other}).id


@pytest.mark.parametrize(
    ("record", "path", "message"),
    [
        ({"messages": [*LONG, LONG[1]]}, "messages", "end with assistant"),
        ({"messages": [LONG[1], *LONG[1:]]}, "messages", "has the roles user, user, assistant"),
        ({"messages": [*LONG[1:], LONG[0], *LONG[3:]]}, "messages", "alternate user and assistant"),
        ({"messages": turns(("tool", "x"), *[(t["role"], t["content"]) for t in LONG])}, "messages[0].role",
         "is 'tool'; it must be one of system, user, assistant"),
        ({"messages": LONG, "final_answer": "4"}, "final_answer", "stands beside `messages`"),
        ({"messages": LONG, "prompt": "other"}, "prompt", "is not the last user turn"),
        ({"messages": LONG, "steps": [{"i": 0, "type": "x", "content": "y"}]}, "steps", "stands beside"),
    ],
)  # fmt: skip
def test_a_broken_conversation_is_named(record: dict[str, object], path: str, message: str) -> None:
    with pytest.raises(TraceError) as caught:
        parse_record(record)
    assert [each.path for each in caught.value.violations] == [path]
    assert message in caught.value.violations[0].message


def test_each_user_turn_of_a_conversation_is_a_question() -> None:
    trace = parse_record({"messages": LONG})
    assert [each.prompt for each in questions(trace)] == ["2+2?", "Sure?"]
    assert questions(Trace("t", "p")) == [Trace("t", "p")]


def test_a_conversation_has_no_single_completion() -> None:
    with pytest.raises(ValueError, match="is a conversation"):
        completion_text(parse_record({"id": "c", "messages": LONG}))
