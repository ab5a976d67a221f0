"""Generators of traces by versioned name: the same name and arguments give the same traces for ever."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from tunix_rt.traces.arithmetic import ARITHMETIC, arithmetic_traces
from tunix_rt.traces.arithmetic_config import arithmetic_config
from tunix_rt.traces.eval_arithmetic import ARITHMETIC_EVAL
from tunix_rt.traces.eval_choices import CHOICES_EVAL
from tunix_rt.traces.eval_edge_cases import EDGE_CASES_EVAL
from tunix_rt.traces.eval_formatting import FORMATTING_EVAL
from tunix_rt.traces.eval_multistep import MULTISTEP_EVAL
from tunix_rt.traces.eval_units import UNITS_EVAL
from tunix_rt.traces.golden import GOLDEN, GOLDEN_SIZE, golden_v2
from tunix_rt.traces.questions import eval_set_traces
from tunix_rt.traces.trace import Trace, TraceError, Violation

EVAL_SETS = {
    each.name: each
    for each in (
        ARITHMETIC_EVAL,
        MULTISTEP_EVAL,
        UNITS_EVAL,
        FORMATTING_EVAL,
        EDGE_CASES_EVAL,
        CHOICES_EVAL,
    )
}
_DEFAULT_SIZE = 100


def build(source: str, seed: int, size: int, config: Mapping[str, object] | None = None) -> list[Trace]:
    """The traces of a source; unknown sources and configuration keys raise TraceError."""
    generate = _SOURCES.get(source)
    if generate is None:
        message = f"is {source!r}; it must be one of {', '.join(source_names())}."
        raise TraceError([Violation(path="source", message=message)])
    return generate(seed, size, config or {})


def source_names() -> tuple[str, ...]:
    """The names that `build` knows."""
    return tuple(sorted(_SOURCES))


def default_size(source: str) -> int:
    """How many traces are made where nobody says: a whole evaluation set, else a hundred."""
    return EVAL_SETS[source].size if source in EVAL_SETS else _DEFAULT_SIZE


def _golden(seed: int, size: int, config: Mapping[str, object]) -> list[Trace]:
    violations = [
        Violation(path=f"config.{key}", message="is not a known key; golden@2 has no configuration.")
        for key in sorted(config)
    ]
    if not 1 <= size <= GOLDEN_SIZE:
        message = f"is {size}; golden@2 has 1 to {GOLDEN_SIZE} traces."
        violations.append(Violation(path="size", message=message))
    if violations:
        raise TraceError(violations)
    return golden_v2(seed)[:size]


def _arithmetic(seed: int, size: int, config: Mapping[str, object]) -> list[Trace]:
    return arithmetic_traces(size, seed, arithmetic_config(config))


_SOURCES: dict[str, Callable[[int, int, Mapping[str, object]], list[Trace]]] = {
    GOLDEN: _golden,
    ARITHMETIC: _arithmetic,
    **{name: partial(eval_set_traces, made) for name, made in EVAL_SETS.items()},
}
