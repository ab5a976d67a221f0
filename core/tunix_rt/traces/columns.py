"""Records with columns of other names and in other formats, made into those that `parse_record` reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tunix_rt.answers.extract import last_boxed
from tunix_rt.traces.fields import kind_of
from tunix_rt.traces.parse import KNOWN_KEYS
from tunix_rt.traces.trace import TraceError, Violation

OTHERS = ("refuse", "meta", "drop")
_ITEM_ONLY = ("section", "category", "difficulty")
_TURNS = ("messages", "prompt", "completion", "response", "conversations")
_CALCULATION = re.compile(r"<<[^<>]*>>")
_SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


@dataclass(frozen=True)
class Columns:
    """How the columns of a source become the fields of a trace.

    `sources` names the column of a field, with dots into objects: {"prompt": "problem.text"}. `format` is a
    name of FORMATS or empty. `others` says what becomes of columns that no field takes: they are faults, go
    into the metadata, or are left out.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    format: str = ""
    others: str = "refuse"

    def faults(self) -> list[Violation]:
        """Everything that is wrong with these settings."""
        found = []
        known = {*KNOWN_KEYS, "split", *_FORMATS.get(self.format, ((), None))[0]}
        for target in self.sources:
            if target not in known and not (target.startswith("meta.") and len(target) > 5):
                text = f"maps to `{target[:80]}`; it must be one of {', '.join(sorted(known))}, or meta.KEY."
                found.append(Violation("map", text))
        if self.format and self.format not in FORMATS:
            text = f"is `{self.format[:80]}`; it must be one of {', '.join(FORMATS)}."
            found.append(Violation("format", text))
        if self.others not in OTHERS:
            found.append(Violation("others", f"is `{self.others}`; it must be one of {', '.join(OTHERS)}."))
        return found

    def apply(self, record: Mapping[str, object], path: str) -> dict[str, object]:
        """The record with the fields of a trace. Raises TraceError with paths like `line 3: answer`."""
        faults: list[Violation] = []
        fields = self._mapped(record, path, faults)
        for key in _TURNS:
            if key in fields:
                fields[key] = _turns(fields[key])
        if self.format:
            keys, convert = _FORMATS[self.format]
            found = {key: fields.pop(key, None) for key in keys}
            for key, value in convert(found, path, faults).items():
                if key in fields:
                    faults.append(Violation(f"{path}: {key}", f"is there, and {self.format} makes one, too."))
                fields[key] = value
        if faults:
            raise TraceError(faults)
        return self._with_others(fields)

    def _mapped(self, record: Mapping[str, object], path: str, faults: list[Violation]) -> dict[str, object]:
        taken = {source.split(".")[0] for source in self.sources.values()}
        fields = {key: value for key, value in record.items() if key not in taken}
        for target, source in self.sources.items():
            value: object = record
            for part in source.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is None:
                faults.append(Violation(f"{path}: {source}", f"is missing; `{target}` is taken from it."))
            elif target.startswith("meta."):
                _meta(fields)[target.removeprefix("meta.")] = value
            else:
                fields[target] = value
        return fields

    def _with_others(self, fields: dict[str, object]) -> dict[str, object]:
        if self.others == "refuse":
            return fields
        known = {*KNOWN_KEYS, "split"} - (set() if "expected_answer" in fields else set(_ITEM_ONLY))
        for key in [key for key in fields if key not in known]:
            value = fields.pop(key)
            if self.others == "meta":
                _meta(fields).setdefault(key, value)
        return fields


def without_nulls(value: object) -> object:
    """The value without the keys of objects that hold null, as tables fill in where an object has no key."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _meta(fields: dict[str, object]) -> dict[str, object]:
    given = fields.get("meta")
    meta = dict(given) if isinstance(given, Mapping) else {}
    fields["meta"] = meta
    return meta


def _turns(value: object) -> object:
    """Messages as a list of objects, also where the source keeps them as an object of lists."""
    if not isinstance(value, Mapping) or not value:
        return value
    columns = list(value.values())
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return value
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def _gsm8k(found: Mapping[str, object], path: str, faults: list[Violation]) -> dict[str, object]:
    """`question`, and `answer` with a step a line and the result after `####`; `<<48/2=24>>` is left out."""
    prompt, answer = (_text(found, key, path, faults) for key in ("question", "answer"))
    steps, mark, result = answer.rpartition("####")
    if answer and not (mark and result.strip()):
        faults.append(Violation(f"{path}: answer", "has no result after `####`."))
    return {"prompt": prompt, "steps": _steps(steps), "final_answer": result.strip()}


def _math(found: Mapping[str, object], path: str, faults: list[Violation]) -> dict[str, object]:
    r"""`problem`, and `solution` whose last `\boxed{}` holds the result; its lines are the steps."""
    prompt, solution = (_text(found, key, path, faults) for key in ("problem", "solution"))
    result = last_boxed(solution) or ""
    if solution and not result:
        faults.append(Violation(f"{path}: solution", "has no result in `\\boxed{}`."))
    return {"prompt": prompt, "steps": _steps(solution), "final_answer": result}


def _sharegpt(found: Mapping[str, object], path: str, faults: list[Violation]) -> dict[str, object]:
    """`conversations` of objects with `from` (system, human, gpt) and `value`."""
    turns = found["conversations"]
    if not isinstance(turns, list):
        text = f"is {kind_of(turns)}; it must be a list of turns with `from` and `value`."
        faults.append(Violation(f"{path}: conversations", text))
        return {}
    messages = []
    for index, turn in enumerate(turns):
        speaker = turn.get("from") if isinstance(turn, Mapping) else None
        role = "system" if speaker == "system" else _SHAREGPT_ROLES.get(str(speaker))
        if role is None or not isinstance(turn, Mapping):
            text = f"is {str(speaker)[:80]!r}; it must be system, human or gpt."
            faults.append(Violation(f"{path}: conversations[{index}].from", text))
        else:
            messages.append({"role": role, "content": turn.get("value")})
    return {"messages": messages}


def _text(found: Mapping[str, object], key: str, path: str, faults: list[Violation]) -> str:
    value = found[key]
    if isinstance(value, str):
        return value
    what = "is missing" if value is None else f"is {kind_of(value)}"
    faults.append(Violation(f"{path}: {key}", f"{what}; it must be a string."))
    return ""


def _steps(text: str) -> list[dict[str, object]]:
    lines = [_CALCULATION.sub("", line).strip() for line in text.splitlines()]
    return [
        {"i": index, "type": "reasoning", "content": line} for index, line in enumerate(filter(None, lines))
    ]


_Convert = Callable[[Mapping[str, object], str, list[Violation]], dict[str, object]]
_FORMATS: dict[str, tuple[Sequence[str], _Convert]] = {
    "gsm8k": (("question", "answer"), _gsm8k),
    "math": (("problem", "solution"), _math),
    "sharegpt": (("conversations",), _sharegpt),
}
FORMATS = tuple(_FORMATS)
