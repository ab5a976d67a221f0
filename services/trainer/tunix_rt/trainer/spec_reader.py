"""Reads one JSON object field by field and collects everything that is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class SpecReader:
    """Takes the fields of one JSON object and collects what is wrong; what is left over is unknown."""

    def __init__(self, value: object, path: str, problems: list[str] | None = None) -> None:
        self.path = path
        self.problems: list[str] = [] if problems is None else problems
        self.left: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {}
        if not isinstance(value, Mapping):
            self.problems.append(f"{path.rstrip('.') or 'the file'}: must be an object.")

    def section(self, name: str) -> SpecReader:
        """The reader of a field that is an object, of the same list of problems."""
        return SpecReader(self.left.pop(name, {}), f"{self.path}{name}.", self.problems)

    def text(self, name: str, default: str) -> str:
        """A text."""
        value: str = self.take(name, str, default)
        return value

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        """One of some texts; an empty one is the default."""
        value = self.text(name, default) or default
        if value not in allowed:
            self.refuse(name, value, f"it must be one of {', '.join(allowed)}")
        return value

    def names(self, name: str, allowed: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of texts, of those that are allowed."""
        found = self.take(name, list, [])
        if not all(isinstance(each, str) and (allowed is None or each in allowed) for each in found):
            self.refuse(name, found, f"it may name {', '.join(allowed)}" if allowed else "it must be texts")
            return ()
        return tuple(found)

    def enum(self, name: str, allowed: tuple[str, ...]) -> str:
        """A value of an enum whose first one holds where none is given."""
        unspecified = f"{name.upper()}_UNSPECIFIED"
        value = self.choice(name, (*allowed, unspecified), allowed[0])
        return allowed[0] if value == unspecified else value

    def flag(self, name: str) -> bool:
        """True or false, which is the default."""
        value: bool = self.take(name, bool, False)
        return value

    def whole(self, name: str, default: int | None = None, *, low: int = 0, high: int = 2**63 - 1) -> int:
        """A whole number in a range."""
        value = self.take(name, int, default)
        if not low <= value <= high:
            self.refuse(name, value, f"it must be from {low} to {high}")
        return int(value)

    def number(
        self,
        name: str,
        default: float | None = None,
        *,
        low: float,
        high: float = math.inf,
        open_low: bool = False,
        open_high: bool = False,
    ) -> float:
        """A finite number in a range whose ends may be left out."""
        value = float(self.take(name, (int, float), default))
        inside = (low < value if open_low else low <= value) and (
            value < high if open_high else value <= high
        )
        if not (inside and math.isfinite(value)):
            left, right = "(" if open_low else "[", ")" if open_high else "]"
            self.refuse(name, value, f"it must be in {left}{low:g}, {high:g}{right}")
        return value

    def take(self, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
        """The field's value, or the default; a default of None makes the field required."""
        value = self.left.pop(name, default)
        if value is None:
            self.problems.append(f"{self.path}{name}: is required.")
            return 1
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.refuse(name, value, "it has a wrong type")
            return 1 if default is None else default
        return value

    def exclude(self, name: str, reason: str) -> None:
        """Refuse a field that would have no effect."""
        if name in self.left:
            self.refuse(name, self.left.pop(name), reason)

    def finish(self) -> None:
        """Report the fields that nobody took."""
        self.problems.extend(f"{self.path}{name}: is unknown; remove it." for name in sorted(self.left))

    def refuse(self, name: str, value: object, rule: str) -> None:
        """Report a field's value."""
        self.problems.append(f"{self.path}{name}: is {value!r}; {rule}.")
