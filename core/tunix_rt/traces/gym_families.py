"""The families of reasoning-gym that traces are made from, without the rest of that package.

Importing the whole package needs a SAT solver that has to be compiled, and takes twice as long; the
arithmetic and algebra families need neither.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_PACKAGE = "reasoning_gym"


@dataclass(frozen=True)
class GymFamilies:
    """`create(name, size=…, seed=…, **options)` gives a family's items; `legs` are those of its animals."""

    create: Callable[..., Any]
    legs: Mapping[str, int]


@functools.cache
def gym_families() -> GymFamilies:
    """Loads the families. Raises ModuleNotFoundError if reasoning-gym is not installed."""
    specification = importlib.util.find_spec(_PACKAGE)
    if specification is None:
        raise ModuleNotFoundError("reasoning-gym is not installed: pip install 'tunix-rt[generators]'")
    whole = sys.modules.get(_PACKAGE)
    if whole is None:  # the package's own code is left out: submodules are found by its path alone
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(specification)
    try:
        importlib.import_module(f"{_PACKAGE}.algebra")
        animals = importlib.import_module(f"{_PACKAGE}.arithmetic.leg_counting").ANIMALS
        factory = importlib.import_module(f"{_PACKAGE}.factory")
    finally:
        if whole is None:
            del sys.modules[_PACKAGE]
    return GymFamilies(factory.create_dataset, animals)
