"""Runs the program that was compiled for the length of a batch's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tunix_rt.trainer.program import Program


def by_length(programs: Mapping[int, Program]) -> Program:
    """One program of those compiled for each length; validation is that of the longest."""
    longest = programs[max(programs)]
    if len(programs) == 1:
        return longest

    def step(carried: Any, frozen: Any, arrays: Any, controls: Any) -> Any:
        made = programs[arrays["tokens"].shape[-1]]
        return made.step(carried, frozen, arrays, controls)

    return replace(longest, step=step)
