"""Reads a message such as RunSpec from YAML or JSON; names every field that is wrong."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from tunix_rt.rpc.errors import InvalidArgument, Violation
from tunix_rt.standalone.failures import CommandError

M = TypeVar("M", bound=Message)
_WELL_KNOWN = "google.protobuf."


def read_spec(path: Path, message: M, *, field: str = "spec") -> M:
    """Fills `message` from a `.json`, `.yaml` or `.yml` file and returns it.

    Raises InvalidArgument with all fields that are unknown or have the wrong type,
    CommandError if the file cannot be read.
    """
    values = _load(path)
    if not isinstance(values, Mapping):
        raise InvalidArgument.of(
            field, f"in {path} is {type(values).__name__}; it must be a mapping of fields."
        )
    return fill(message, values, field=field)


def fill(message: M, values: Mapping[str, object], *, field: str = "spec") -> M:
    """Fills `message` from plain values and returns it. Raises InvalidArgument."""
    violations = _violations(type(message).DESCRIPTOR, values, field)
    if not violations:
        try:
            ParseDict(dict(values), message)
        except ParseError as error:
            violations = [Violation(field, f"{error}.")]
    if violations:
        raise InvalidArgument(violations)
    return message


def set_fields(message: M, settings: Sequence[str], *, field: str = "spec") -> M:
    """Sets fields from texts such as `optimizer.beta2=0.95`, whose values are YAML, and returns the message.

    A later one wins. Raises InvalidArgument with all that are wrong.
    """
    values: dict[str, Any] = {}
    violations = []
    for setting in settings:
        path, equals, text = setting.partition("=")
        names = path.strip().split(".")
        if not equals or not all(names):
            violations.append(Violation("--set", f"is `{setting[:100]}`; it must be FIELD=VALUE."))
            continue
        inner = values
        for name in names[:-1]:
            inner = inner.setdefault(name, {}) if isinstance(inner.get(name, {}), dict) else {}
        inner[names[-1]] = _yaml(text, f"--set {path}")
    if violations:
        raise InvalidArgument(violations)
    _replace(message, fill(type(message)(), values, field=field), values)
    return message


def _replace(target: Message, given: Message, values: Mapping[str, object]) -> None:
    """Takes over the fields that `values` names, from a message filled with them."""
    for name, value in values.items():
        inner = getattr(given, name)
        if isinstance(inner, Message) and isinstance(value, Mapping):
            getattr(target, name).SetInParent()
            _replace(getattr(target, name), inner, value)
        elif isinstance(inner, Message):
            getattr(target, name).CopyFrom(inner)
        elif isinstance(value, list | Mapping):
            target.ClearField(name)
            getattr(target, name).MergeFrom(inner)
        else:
            setattr(target, name, inner)


def _yaml(text: str, where: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidArgument.of(where, f"is `{text[:100]}`; it must be a YAML value.") from error


def _load(path: Path) -> object:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise CommandError("SPEC_UNREADABLE", f"{path} is not valid JSON: {error}.") from error
    try:
        import yaml
    except ImportError as error:
        message = f"{path} is YAML, but PyYAML is not installed; install it, or write the spec as JSON."
        raise CommandError("SPEC_UNREADABLE", message) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise CommandError("SPEC_UNREADABLE", f"{path} is not valid YAML: {where}.") from error


def _violations(descriptor: Any, values: Mapping[str, object], path: str) -> list[Violation]:
    found: list[Violation] = []
    for key, value in values.items():
        where = f"{path}.{key}"
        known = descriptor.fields_by_name.get(str(key))
        if known is None:
            found.append(Violation(where, f"is not a field.{_suggestion(str(key), descriptor)}"))
        else:
            found += _of_field(known, value, where)
    for oneof in descriptor.oneofs:
        given = [item.name for item in oneof.fields if item.name in values]
        if len(given) > 1 and len(oneof.fields) > 1:
            found.append(Violation(f"{path}.{given[1]}", f"excludes `{given[0]}`; give only one of them."))
    return found


def _of_field(known: Any, value: object, path: str) -> list[Violation]:
    if known.is_repeated and not _is_map(known):
        if not isinstance(value, list):
            return [Violation(path, f"is {_kind(value)}; it must be a list.")]
        items = [_of_item(known, item, f"{path}[{index}]") for index, item in enumerate(value)]
        return [violation for item in items for violation in item]
    return _of_item(known, value, path)


def _of_item(known: Any, value: object, path: str) -> list[Violation]:
    inner = known.message_type
    if inner is not None and not _is_map(known) and not inner.full_name.startswith(_WELL_KNOWN):
        if not isinstance(value, Mapping):
            return [Violation(path, f"is {_kind(value)}; it must be a mapping of fields.")]
        return _violations(inner, value, path)
    probe = _message_of(known)
    try:
        ParseDict({known.name: [value] if known.is_repeated and not _is_map(known) else value}, probe)
    except ParseError:
        return [Violation(path, f"is {value!r}; it must be {_wanted(known)}.")]
    return []


def _message_of(known: Any) -> Message:
    from google.protobuf.message_factory import GetMessageClass

    message: Message = GetMessageClass(known.containing_type)()
    return message


def _is_map(known: Any) -> bool:
    return bool(known.message_type is not None and known.message_type.GetOptions().map_entry)


def _wanted(known: Any) -> str:
    if known.enum_type is not None:
        return "one of " + ", ".join(value.name for value in known.enum_type.values[1:])
    return {
        FieldDescriptor.CPPTYPE_INT32: "a whole number",
        FieldDescriptor.CPPTYPE_INT64: "a whole number",
        FieldDescriptor.CPPTYPE_DOUBLE: "a number",
        FieldDescriptor.CPPTYPE_FLOAT: "a number",
        FieldDescriptor.CPPTYPE_BOOL: "true or false",
        FieldDescriptor.CPPTYPE_STRING: "a text",
    }.get(known.cpp_type, "a mapping")


def _suggestion(key: str, descriptor: Any) -> str:
    fields = [field.name for field in descriptor.fields]
    close = difflib.get_close_matches(key, fields, n=1)
    return f" Did you mean `{close[0]}`?" if close else f" The fields are {', '.join(fields)}."


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
