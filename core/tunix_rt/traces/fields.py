"""Typed reading of the fields of one JSON record."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tunix_rt.traces.trace import Violation

MAX_DEPTH = 16


class RecordReader:
    """Reads fields of one record and keeps a list of what is wrong."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.violations: list[Violation] = []

    def wrong(self, field: str, message: str) -> None:
        """Notes a violation of a field."""
        path = ": ".join(part for part in (self.path, field) if part)
        self.violations.append(Violation(path=path or "record", message=message))

    def text(self, record: Mapping[str, object], key: str, *, required: bool, prefix: str = "") -> str:
        """A string field; missing, of another type or, where required, blank is a violation."""
        value = record.get(key)
        field = prefix + key
        if value is None:
            if required:
                self.wrong(field, "is missing; it must be a non-empty string.")
            return ""
        if not isinstance(value, str):
            self.wrong(field, f"is {kind_of(value)}; it must be a string.")
            return ""
        if required and not value.strip():
            self.wrong(field, "is empty; it must have text.")
        return self.encodable(value, field)

    def answer(self, record: Mapping[str, object], key: str, *, required: bool) -> str:
        """An answer; a JSON number or boolean is taken as its text."""
        value = record.get(key)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float) and not math.isfinite(value):
            self.wrong(key, "is NaN or infinite; it must be a finite number or a string.")
            return ""
        if isinstance(value, (int, float)):
            return repr(value)
        return self.text(record, key, required=required)

    def encodable(self, value: str, field: str) -> str:
        """The string itself when it is valid Unicode."""
        if value.isascii():
            return value
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            self.wrong(field, "has half of a surrogate pair; it must be valid Unicode.")
            return ""
        return value

    def meta(self, record: Mapping[str, object]) -> dict[str, object]:
        """The metadata, made of JSON values no deeper than MAX_DEPTH."""
        value = record.get("meta")
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.wrong("meta", f"is {kind_of(value)}; it must be an object.")
            return {}
        return {self._key(key): self._json(item, f"meta.{key}", 1) for key, item in value.items()}

    def _json(self, value: object, field: str, depth: int) -> object:
        if depth > MAX_DEPTH:
            self.wrong(field, f"is nested deeper than {MAX_DEPTH} levels.")
            return None
        if isinstance(value, Mapping):
            return {self._key(k): self._json(v, f"{field}.{k}", depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._json(item, f"{field}[{i}]", depth + 1) for i, item in enumerate(value)]
        if isinstance(value, str):
            return self.encodable(value, field)
        if isinstance(value, float) and not math.isfinite(value):
            self.wrong(field, "is NaN or infinite; it must be a finite number.")
        elif value is not None and not isinstance(value, (bool, int, float)):
            self.wrong(field, f"is {kind_of(value)}; it must be a JSON value.")
        return value

    def _key(self, key: object) -> str:
        return self.encodable(str(key), "meta")


def kind_of(value: object) -> str:
    """The JSON name of a value's type, with its article."""
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else type(value).__name__)
