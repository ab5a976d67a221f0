"""Single fields of a config.json, each read or refused by its name."""

from collections.abc import Mapping, Sequence
from typing import Any

from tunix_rt.lm.errors import ModelError

NOT_SUPPORTED = "Use a model of a family in docs/models.md, without this setting."
CORRECT = "Correct config.json."


def bad(key: str, problem: str, remedy: str = NOT_SUPPORTED) -> ModelError:
    """The error for a field."""
    return ModelError(f"config.json: {key}", problem, remedy=remedy)


def positive(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A positive whole number; `default` where it is missing or null."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    if value is None:
        raise bad(key, "is missing.", "Copy the config.json that belongs to the weights.")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise bad(key, f"is {value!r}; it must be a positive whole number.", CORRECT)
    return value


def number(config: Mapping[str, Any], key: str, default: float | None = None, *, path: str = "") -> float:
    """A positive number; `path` stands before the key in an error."""
    value = config.get(key, default)
    if value is None:
        raise bad(path + key, "is missing.", "Copy the config.json that belongs to the weights.")
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise bad(path + key, f"is {value!r}; it must be a positive number.", CORRECT)
    return float(value)


def optional_number(config: Mapping[str, Any], key: str, default: float | None = None) -> float | None:
    """A positive number, or None where the field says null."""
    if key in config and config[key] is None:
        return None
    return None if default is None and key not in config else number(config, key, default)


def flag(config: Mapping[str, Any], key: str, default: bool = False) -> bool:
    """A boolean; `default` where it is missing or null."""
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise bad(key, f"is {value!r}; it must be true or false.", CORRECT)
    return default if value is None else value


def optional_id(config: Mapping[str, Any], key: str) -> int | None:
    """A token id, or None."""
    value = config.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise bad(key, f"is {value!r}; it must be a token id or null.", CORRECT)


def token_ids(config: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """Token ids, from a list, one number or null."""
    value = config.get(key)
    listed: Sequence[Any] = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return tuple(optional_id({key: each}, key) or 0 for each in listed)


def mapping(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object; an empty one where it is missing or null."""
    value = config.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise bad(key, f"{value!r} is not supported.")
    return value or {}
