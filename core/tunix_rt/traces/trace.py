"""The trace: a prompt, its reasoning steps and its final answer, with canonical bytes."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tunix_rt.answers import equivalence

ANSWER_TYPES = ("", *equivalence.ANSWER_TYPES)
MAX_ID_LENGTH = 200
_SHOWN_VIOLATIONS = 20
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_quoted = json.encoder.encode_basestring


@dataclass(frozen=True)
class Violation:
    """One thing wrong with the input: where, and what to do about it."""

    path: str
    message: str


class TraceError(ValueError):
    """Everything wrong with a record, a file or a source's configuration, together."""

    def __init__(self, violations: list[Violation]) -> None:
        self.violations = violations
        shown = "; ".join(f"{item.path}: {item.message}" for item in violations[:_SHOWN_VIOLATIONS])
        hidden = len(violations) - _SHOWN_VIOLATIONS
        super().__init__(shown + (f"; and {hidden} more" if hidden > 0 else ""))


@dataclass(frozen=True)
class Step:
    """One reasoning step; `i` counts from 0."""

    i: int
    type: str
    content: str


@dataclass(frozen=True)
class ChatMessage:
    """A turn of a conversation; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True)
class Trace:
    """A prompt with the reasoning that leads to its answer, or a conversation.

    `answer_type` is one of ANSWER_TYPES, "" meaning that the answer's own form tells. `completion` is a
    text to train on verbatim; when empty, the completion is made from steps and answer. An item that is
    only for evaluation has neither. `messages` is a conversation whose every assistant turn is learnt; then
    `prompt` is its last user turn, and there are no steps, completion and answer. `meta` holds JSON values.
    """

    id: str
    prompt: str
    steps: tuple[Step, ...] = ()
    final_answer: str = ""
    answer_type: str = ""
    aliases: tuple[str, ...] = ()
    completion: str = ""
    meta: Mapping[str, object] = field(default_factory=dict)
    messages: tuple[ChatMessage, ...] = ()


def canonical_json(trace: Trace, split: str) -> bytes:
    """The one serialisation of a trace in a split: UTF-8 JSON with sorted keys, one line, no newline.

    The key `messages` is there only where the trace has some.
    """
    return _canonical(trace, trace.id, _meta_text(trace.meta), split).encode("utf-8")


def content_key(trace: Trace) -> bytes:
    """SHA-256 of the canonical JSON without id, metadata and split: what makes two traces the same."""
    return hashlib.sha256(_canonical(trace, "", "{}", "").encode("utf-8")).digest()


def _canonical(trace: Trace, identifier: str, meta: str, split: str) -> str:
    """What `json.dumps` gives with sorted keys, without spaces and without ASCII escapes, but faster."""
    turns = ",".join(
        f'{{"content":{_quoted(turn.content)},"role":{_quoted(turn.role)}}}' for turn in trace.messages
    )
    messages = f'"messages":[{turns}],' if turns else ""
    steps = ",".join(
        f'{{"content":{_quoted(step.content)},"i":{step.i},"type":{_quoted(step.type)}}}'
        for step in trace.steps
    )
    return (
        f'{{"aliases":[{",".join(map(_quoted, trace.aliases))}],"answer_type":{_quoted(trace.answer_type)},'
        f'"completion":{_quoted(trace.completion)},"final_answer":{_quoted(trace.final_answer)},'
        f'"id":{_quoted(identifier)},{messages}"meta":{meta},"prompt":{_quoted(trace.prompt)},'
        f'"split":{_quoted(split)},"steps":[{steps}]}}'
    )


def _meta_text(meta: Mapping[str, object]) -> str:
    return _ENCODER.encode(plain_json(meta)) if meta else "{}"


def id_fault(identifier: str) -> str:
    """What is wrong with the id of a trace; empty if nothing is."""
    if len(identifier) > MAX_ID_LENGTH or not identifier.isprintable():
        return f"must be printable and at most {MAX_ID_LENGTH} characters."
    return ""


def part_name(meta: Mapping[str, object], key: str) -> str:
    """The part that a key of an item's metadata names, such as its family; empty if it names none."""
    value = meta.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, str | int | float) else ""


def family_of(meta: Mapping[str, object]) -> str:
    """The template family of an item: its `family`, else its section and category; empty if it has neither.

    The questions of one section and category of the built-in sets come from one template.
    """
    family, category = part_name(meta, "family"), part_name(meta, "category")
    return family or (f"{part_name(meta, 'section')}/{category}" if category else "")


def plain_json(value: object) -> object:
    """The value with mappings and sequences as plain dicts and lists, as `json` wants them."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    return value


def content_digest(trace: Trace) -> str:
    """SHA-256 of the normalised prompt, in hexadecimal: equal for prompts that differ in layout only."""
    return hashlib.sha256(normalise_prompt(trace.prompt).encode("utf-8")).hexdigest()


def questions(trace: Trace) -> list[Trace]:
    """The trace itself; of a conversation, one for each user turn as the prompt."""
    asked = [turn.content for turn in trace.messages if turn.role == "user"]
    return [replace(trace, prompt=content) for content in asked] or [trace]


def identity_digest(trace: Trace) -> str:
    """What the id of a trace without one is made of: its content digest, or that of all its turns."""
    if not trace.messages:
        return content_digest(trace)
    turns = json.dumps([[turn.role, turn.content] for turn in trace.messages])
    return hashlib.sha256(turns.encode("utf-8")).hexdigest()


def normalise_prompt(prompt: str) -> str:
    """The prompt in compatibility form, case folded, with single spaces."""
    return " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())
