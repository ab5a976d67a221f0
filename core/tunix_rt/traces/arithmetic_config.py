"""The configuration of the arithmetic source: families and difficulty."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

from tunix_rt.traces.trace import TraceError, Violation

FAMILIES = ("basic_arithmetic", "chain_sum", "leg_counting", "products", "simple_equations")
OPERATORS = ("+", "-", "*", "/")
EASY_FAMILIES = MappingProxyType({"chain_sum": 0.7, "basic_arithmetic": 0.3})

_RANGES = {"min_terms": (2, 8), "max_terms": (2, 8), "min_digits": (1, 6), "max_digits": (1, 6)}


@dataclass(frozen=True)
class ArithmeticConfig:
    """What problems the arithmetic source makes; the defaults are the easy setting.

    `families` weighs the families, in any positive unit. `min_terms` to `max_terms` numbers of
    `min_digits` to `max_digits` digits stand in a problem. Without `negatives`, no number and no
    result on the way is below zero; none is above `max_value` in size. `operators` and `parentheses`
    concern basic_arithmetic only.
    """

    families: Mapping[str, float] = field(default_factory=lambda: dict(EASY_FAMILIES))
    min_terms: int = 3
    max_terms: int = 4
    min_digits: int = 1
    max_digits: int = 2
    operators: tuple[str, ...] = ("+", "-", "*")
    parentheses: bool = False
    negatives: bool = False
    max_value: int = 999

    def __post_init__(self) -> None:
        """Checks all fields and raises TraceError with every violation."""
        violations = [
            Violation(path=f"config.{name}", message=f"is {getattr(self, name)}; it must be {low} to {high}.")
            for name, (low, high) in _RANGES.items()
            if not low <= getattr(self, name) <= high
        ]
        violations += _disorder(self) + _bad_families(self.families)
        if not self.operators or not set(self.operators) <= set(OPERATORS):
            message = f"is {list(self.operators)}; it must be some of {' '.join(OPERATORS)}."
            violations.append(Violation(path="config.operators", message=message))
        if self.max_value < 10:
            message = f"is {self.max_value}; it must be at least 10."
            violations.append(Violation(path="config.max_value", message=message))
        if violations:
            raise TraceError(violations)


def arithmetic_config(values: Mapping[str, object]) -> ArithmeticConfig:
    """Reads a configuration; unknown keys and wrong types are reported together.

    `families` may be a list (equal weights) or an object of weights. Numbers may come as floats without
    a fraction, as protobuf structs give them.
    """
    violations: list[Violation] = []
    read: dict[str, object] = {}
    known = {item.name for item in fields(ArithmeticConfig)}
    for key, value in sorted(values.items()):
        if key not in known:
            message = f"is not a known key; known are {', '.join(sorted(known))}."
            violations.append(Violation(path=f"config.{key}", message=message))
            continue
        try:
            read[key] = _READERS.get(key, _integer)(value)
        except ValueError as error:
            violations.append(Violation(path=f"config.{key}", message=str(error)))
    try:
        config = ArithmeticConfig(**read)  # type: ignore[arg-type]
    except TraceError as error:
        violations += error.violations
    if violations:
        raise TraceError(violations)
    return config


def _disorder(config: ArithmeticConfig) -> list[Violation]:
    return [
        Violation(path=f"config.max_{name}", message=f"is {high}, less than min_{name} ({low}).")
        for name, low, high in (
            ("terms", config.min_terms, config.max_terms),
            ("digits", config.min_digits, config.max_digits),
        )
        if high < low
    ]


def _bad_families(families: Mapping[str, float]) -> list[Violation]:
    if not families:
        return [Violation(path="config.families", message=f"is empty; name some of {', '.join(FAMILIES)}.")]
    violations = [
        Violation(path=f"config.families.{name}", message=f"is no family; there are {', '.join(FAMILIES)}.")
        for name in sorted(set(families) - set(FAMILIES))
    ]
    violations += [
        Violation(path=f"config.families.{name}", message=f"is {weight}; weights must be positive.")
        for name, weight in sorted(families.items())
        if not (math.isfinite(weight) and weight > 0)
    ]
    return violations


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not float(value).is_integer():
        raise ValueError(f"is {value!r}; it must be a whole number.")
    return int(value)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"is {value!r}; it must be true or false.")
    return value


def _operators(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"is {value!r}; it must be a list of operators.")
    return tuple(sorted(set(value)))


def _families(value: object) -> dict[str, float]:
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return dict.fromkeys(sorted(value), 1.0)
    if isinstance(value, Mapping) and all(
        isinstance(weight, (int, float)) and not isinstance(weight, bool) for weight in value.values()
    ):
        return {str(name): float(weight) for name, weight in sorted(value.items())}
    raise ValueError(f"is {value!r}; it must be a list of families or an object of weights.")


_READERS = {
    "families": _families,
    "operators": _operators,
    "parentheses": _boolean,
    "negatives": _boolean,
}
