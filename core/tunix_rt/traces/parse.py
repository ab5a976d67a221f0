"""Records in the formats that users have, read into traces; every fault is reported together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from tunix_rt.traces.conversation import conversation, is_conversation, read_turns
from tunix_rt.traces.fields import RecordReader, kind_of
from tunix_rt.traces.trace import ANSWER_TYPES, ChatMessage, Step, Trace, TraceError, identity_digest

_OPTIONAL = {"id", "answer_type", "aliases", "meta"}
_RAW_KEYS = _OPTIONAL | {"trace_version", "prompt", "final_answer", "steps", "completion"}
_ITEM_KEYS = _OPTIONAL | {"prompt", "expected_answer", "section", "category", "difficulty"}
_PAIR_KEYS = _OPTIONAL | {"prompt", "response", "completion", "final_answer"}
_CHAT_KEYS = _OPTIONAL | {"messages", "final_answer"}
_CONVERSATION_KEYS = _RAW_KEYS - {"trace_version"} | {"messages"}
KNOWN_KEYS = frozenset(_RAW_KEYS | _ITEM_KEYS | _PAIR_KEYS | _CHAT_KEYS)
"""The keys of all forms of a record."""

_STEP_KEYS = {"i", "type", "content"}
_TAGGED = re.compile(
    r"\s*<reasoning>(?P<reasoning>.*?)</reasoning>\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL
)


def parse_record(record: object, path: str = "") -> Trace:
    """Reads a raw trace, an evaluation item, a prompt-completion pair or a chat.

    A chat of one user turn and one assistant turn becomes a pair, a longer one stays a conversation.

    `path` goes before the field in each violation, for example "line 17". The id, when missing, is made
    from the prompt. Unknown keys are violations: what has no place in the format belongs in `meta`.
    """
    reader = RecordReader(path)
    if not isinstance(record, Mapping):
        reader.wrong("", f"is {kind_of(record)}; it must be a JSON object.")
        raise TraceError(reader.violations)
    trace = _read(reader, record)
    if trace is None or reader.violations:
        raise TraceError(reader.violations)
    return trace


def _read(reader: RecordReader, record: Mapping[str, object]) -> Trace | None:
    if "messages" in record:
        turns = read_turns(reader, record["messages"], "messages")
        if is_conversation(record, turns):
            return _conversation(reader, record, turns)
        return _chat(reader, record, turns)
    if "steps" in record or ("final_answer" in record and not {"response", "completion"} & set(record)):
        return _raw(reader, record)
    if "response" in record or "completion" in record:
        return _pair(reader, record)
    if "expected_answer" in record:
        return _item(reader, record)
    if "prediction" in record or "predicted_answer" in record:
        reader.wrong("", "is a prediction, not a trace; upload predictions where outputs are scored.")
        return None
    reader.wrong(
        "",
        "has none of `final_answer`, `steps`, `expected_answer`, `completion`, `response` and `messages`; "
        "one of them must say what the answer is.",
    )
    return None


def _raw(reader: RecordReader, record: Mapping[str, object]) -> Trace:
    _known(reader, record, _RAW_KEYS)
    completion = reader.text(record, "completion", required=False)
    meta = reader.meta(record)
    if "trace_version" in record:
        _keep(reader, meta, "trace_version", reader.text(record, "trace_version", required=True))
    return _trace(
        reader,
        record,
        prompt=reader.text(record, "prompt", required=True),
        steps=_steps(reader, record.get("steps")),
        final_answer=reader.answer(record, "final_answer", required=not completion),
        completion=completion,
        meta=meta,
    )


def _item(reader: RecordReader, record: Mapping[str, object]) -> Trace:
    _known(reader, record, _ITEM_KEYS)
    meta = reader.meta(record)
    for key in ("section", "category", "difficulty"):
        if key in record:
            _keep(reader, meta, key, reader.answer(record, key, required=True))
    return _trace(
        reader,
        record,
        prompt=reader.text(record, "prompt", required=True),
        final_answer=reader.answer(record, "expected_answer", required=True),
        meta=meta,
    )


def _pair(reader: RecordReader, record: Mapping[str, object]) -> Trace:
    _known(reader, record, _PAIR_KEYS)
    if "response" in record and "completion" in record:
        reader.wrong("response", "stands beside `completion`; give only one of them.")
    key = "response" if "response" in record else "completion"
    meta = reader.meta(record)
    if isinstance(record.get("prompt"), list) or isinstance(record.get(key), list):
        turns = [
            *read_turns(reader, record.get("prompt"), "prompt"),
            *read_turns(reader, record.get(key), key),
        ]
        prompt, completion = _two_turns(reader, turns, "prompt", meta)
    else:
        prompt = reader.text(record, "prompt", required=True)
        completion = reader.text(record, key, required=True)
    return _completed(reader, record, prompt=prompt, completion=completion, meta=meta)


def _conversation(reader: RecordReader, record: Mapping[str, object], turns: list[tuple[str, str]]) -> Trace:
    """A conversation; of the other keys of a canonical record it has only the empty ones."""
    _known(reader, record, _CONVERSATION_KEYS)
    prompt = conversation(reader, record, turns)
    messages = tuple(ChatMessage(role, content) for role, content in turns)
    return _trace(reader, record, prompt=prompt, meta=reader.meta(record), messages=messages)


def _chat(reader: RecordReader, record: Mapping[str, object], turns: list[tuple[str, str]]) -> Trace:
    _known(reader, record, _CHAT_KEYS)
    meta = reader.meta(record)
    prompt, completion = _two_turns(reader, turns, "messages", meta)
    return _completed(reader, record, prompt=prompt, completion=completion, meta=meta)


def _completed(
    reader: RecordReader,
    record: Mapping[str, object],
    *,
    prompt: str,
    completion: str,
    meta: dict[str, object],
) -> Trace:
    """A trace with its own completion; `<reasoning>` and `<answer>` in it give steps and answer."""
    answer = reader.answer(record, "final_answer", required=False)
    tagged = _TAGGED.fullmatch(completion)
    lines = tagged.group("reasoning").splitlines() if tagged else []
    contents = [line.strip() for line in lines if line.strip()]
    return _trace(
        reader,
        record,
        prompt=prompt,
        steps=tuple(Step(i=i, type="reasoning", content=text) for i, text in enumerate(contents)),
        final_answer=answer or (tagged.group("answer").strip() if tagged else ""),
        completion=completion,
        meta=meta,
    )


def _two_turns(
    reader: RecordReader, turns: list[tuple[str, str]], field: str, meta: dict[str, object]
) -> tuple[str, str]:
    """The user's and the assistant's text; a system message before them goes into the metadata."""
    if not turns:
        return "", ""  # the reader has noted why
    roles = [role for role, _ in turns]
    if roles[:1] == ["system"]:
        _keep(reader, meta, "system", turns[0][1])
        turns, roles = turns[1:], roles[1:]
    if roles != ["user", "assistant"]:
        reader.wrong(
            field,
            f"has the roles {', '.join(roles) or 'none'}; it must be one user turn and one assistant turn, "
            "with at most a system message before them.",
        )
        return "", ""
    return turns[0][1], turns[1][1]


def _trace(
    reader: RecordReader,
    record: Mapping[str, object],
    *,
    prompt: str,
    steps: tuple[Step, ...] = (),
    final_answer: str = "",
    completion: str = "",
    meta: dict[str, object],
    messages: tuple[ChatMessage, ...] = (),
) -> Trace:
    identity = record.get("id")
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    name = reader.text({"id": identity}, "id", required="id" in record)
    answer_type = reader.text(record, "answer_type", required=False)
    if answer_type not in ANSWER_TYPES:
        reader.wrong("answer_type", f"is {answer_type!r}; it must be one of {', '.join(ANSWER_TYPES[1:])}.")
    trace = Trace(
        id=name,
        prompt=prompt,
        steps=steps,
        final_answer=final_answer,
        answer_type=answer_type,
        aliases=_aliases(reader, record.get("aliases")),
        completion=completion,
        meta=meta,
        messages=messages,
    )
    if name:
        return trace
    return replace(trace, id=f"trace-{identity_digest(trace)[:20]}")


def _steps(reader: RecordReader, value: object) -> tuple[Step, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        reader.wrong("steps", f"is {kind_of(value)}; it must be a list.")
        return ()
    steps = []
    first = value[0].get("i") if value and isinstance(value[0], Mapping) else 0
    offset = 1 if first == 1 else 0
    for i, item in enumerate(value):
        field = f"steps[{i}]"
        if not isinstance(item, Mapping):
            reader.wrong(field, f"is {kind_of(item)}; it must be an object.")
            continue
        if not item.keys() <= _STEP_KEYS:
            for key in sorted(set(map(str, item)) - _STEP_KEYS):
                reader.wrong(f"{field}.{key}", "is not a known key; known are i, type and content.")
        number = item.get("i")
        if isinstance(number, bool) or not isinstance(number, int) or number != i + offset:
            reader.wrong(f"{field}.i", f"is {number!r}; steps count up by one, so it must be {i + offset}.")
        kind = reader.text(item, "type", required=True, prefix=f"{field}.")
        content = reader.text(item, "content", required=True, prefix=f"{field}.")
        steps.append(Step(i=i, type=kind, content=content))
    return tuple(steps)


def _aliases(reader: RecordReader, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        reader.wrong("aliases", "must be a list of non-empty strings.")
        return ()
    return tuple(reader.encodable(item, "aliases") for item in value)


def _known(reader: RecordReader, record: Mapping[str, object], known: set[str]) -> None:
    if record.keys() <= known:
        return
    for key in sorted(set(map(str, record)) - known):
        reader.wrong(
            key, f"is not a known key; known are {', '.join(sorted(known))}. Other facts belong in `meta`."
        )


def _keep(reader: RecordReader, meta: dict[str, object], key: str, value: str) -> None:
    if key in meta and meta[key] != value:
        reader.wrong(key, f"is {value!r} but `meta.{key}` is {meta[key]!r}; give only one of them.")
    meta[key] = value
