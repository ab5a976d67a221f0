"""A tiny model, and one warm engine for all tests; compiled programs are kept for engines that follow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tunix_rt.evaluator.engine_client import EngineClient, EngineModel
from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.traces.text import INSTRUCTIONS

TEXTS = [
    *INSTRUCTIONS.values(),
    *(f"What is {a} + {b}?\n{a} + {b} = {a + b}\nAnswer: {a + b}" for a in range(20) for b in range(20)),
]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_tiny_model(folder, TEXTS, seed=1)
    return folder


@pytest.fixture(scope="session")
def compile_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compile-cache")


@pytest.fixture(scope="session")
def model(tiny_model: Path) -> EngineModel:
    return EngineModel(tiny_model, "digest-of-tiny")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(compile_cache: Path) -> AsyncIterator[EngineClient]:
    client = EngineClient({"TUNIX_RT_COMPILE_CACHE": str(compile_cache)})
    yield client
    await client.stop()
