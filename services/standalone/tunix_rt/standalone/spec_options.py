"""Commands that share the options of a function, declared once as its parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any, get_type_hints


def with_options_of(
    make: Callable[..., object], *, takes: str = "spec"
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of `make` for its parameter `takes`, which gets what `make` returns."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own, shared = signature(command), signature(make).parameters
        parameters: list[Parameter] = []
        for parameter in own.parameters.values():
            parameters += shared.values() if parameter.name == takes else [parameter]
        hints = get_type_hints(command, include_extras=True) | get_type_hints(make, include_extras=True)

        @wraps(command)
        def run(**values: Any) -> None:
            made = make(**{name: values.pop(name) for name in shared})
            command(**{takes: made}, **values)

        run.__dict__["__signature__"] = own.replace(
            parameters=[each.replace(annotation=hints[each.name]) for each in parameters]
        )
        run.__annotations__ = {each.name: hints[each.name] for each in parameters}
        return run

    return decorate
