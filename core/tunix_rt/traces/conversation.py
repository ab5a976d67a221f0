"""Conversations of several turns: how they are read, and what they must be like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunix_rt.traces.fields import RecordReader, kind_of

ROLES = ("system", "user", "assistant")
_ORDER = "it must begin with a system or user turn, alternate user and assistant, and end with assistant."
_ELSEWHERE = ("steps", "completion", "final_answer", "answer_type", "aliases")

Turns = Sequence[tuple[str, str]]


def read_turns(reader: RecordReader, value: object, field: str) -> list[tuple[str, str]]:
    """Role and content of each message of a list; the reader notes what is wrong."""
    if not isinstance(value, list) or not value:
        reader.wrong(field, "must be a non-empty list of messages with `role` and `content`.")
        return []
    turns = []
    for i, message in enumerate(value):
        if not isinstance(message, Mapping):
            reader.wrong(f"{field}[{i}]", f"is {kind_of(message)}; it must be an object.")
            continue
        for key in sorted(set(message) - {"role", "content"}):
            reader.wrong(f"{field}[{i}].{key}", "is not a known key; known are role and content.")
        role = reader.text(message, "role", required=True, prefix=f"{field}[{i}].")
        turns.append((role, reader.text(message, "content", required=True, prefix=f"{field}[{i}].")))
    return turns


def is_conversation(record: Mapping[str, object], turns: Turns) -> bool:
    """Whether a record with messages stays a conversation.

    It does if it has the `prompt` of a canonical record, or a second assistant turn.
    """
    return "prompt" in record or sum(role == "assistant" for role, _ in turns) > 1


def conversation(reader: RecordReader, record: Mapping[str, object], turns: Turns) -> str:
    """Checks the order of the turns and gives the last user turn, the conversation's prompt."""
    roles = [role for role, _ in turns]
    for i, role in enumerate(roles):
        if role and role not in ROLES:
            reader.wrong(f"messages[{i}].role", f"is {role[:80]!r}; it must be one of {', '.join(ROLES)}.")
    after_system = roles[1:] if roles[:1] == ["system"] else roles
    pairs = len(after_system) // 2
    if turns and set(roles) <= set(ROLES) and (not pairs or after_system != ["user", "assistant"] * pairs):
        reader.wrong("messages", f"has the roles {', '.join(roles[:20])}; {_ORDER}")
    for key in _ELSEWHERE:
        if record.get(key):
            reader.wrong(key, "stands beside `messages`, which hold all that is learnt; leave it out.")
    prompt = next((content for role, content in reversed(turns) if role == "user"), "")
    given = reader.text(record, "prompt", required=False)
    if given not in ("", prompt):
        reader.wrong("prompt", "is not the last user turn of `messages`; leave it out.")
    return prompt
