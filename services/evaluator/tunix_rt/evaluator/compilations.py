"""Counts what XLA compiles, so that measurements can leave it out."""

from __future__ import annotations

import jax.monitoring

_EVENT = "/jax/core/compile/backend_compile_duration"  # also recorded when the compile cache has the program


class Compilations:
    """The compilations of this process since it was made."""

    def __init__(self) -> None:
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._note)

    def _note(self, event: str, duration_secs: float, **_: str | int) -> None:  # noqa: ARG002
        if event == _EVENT:
            self.count += 1
