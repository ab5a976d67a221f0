"""Job directories around a tiny model, and the child as a real process on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import pytest

from tunix_rt.jobs.directory import JobDirectory, read_json, write_json
from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.traces.text import completion_text
from tunix_rt.traces.trace import Step, Trace, canonical_json
from tunix_rt.trainer.rows.by_hand import render_directory

SPEC: dict[str, Any] = {
    "steps": 24,
    "batch_size": 2,
    "max_length": 128,
    "optimizer": {"learning_rate": 0.01, "warmup_steps": 2},
    "seed": 3,
    "validate_every": 6,
    "checkpoint_every": 5,
}


def sums() -> list[tuple[Trace, str]]:
    """Additions with one step each, every fifth one for validation."""
    rows = []
    for number in range(40):
        left, right = number * 7 % 50, number * 11 % 40
        total = f"{left} + {right} = {left + right}"
        trace = Trace(
            id=f"sum-{number}",
            prompt=f"Calculate {left} + {right}.",
            steps=(Step(0, "compute", total),),
            final_answer=str(left + right),
        )
        rows.append((trace, "train" if number % 5 else "validation"))
    return rows


@pytest.fixture(scope="module")
def compile_quickly() -> Iterator[None]:
    """Programs are compiled in half the time, and run slower."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    texts = [f"{trace.prompt}\n{completion_text(trace)}" for trace, _ in sums()]
    make_tiny_model(folder, texts, seed=0, hidden_size=32, num_layers=2)
    return folder


Rows = list[tuple[Trace, str]]


@dataclass(frozen=True)
class Jobs:
    """Makes job directories and runs the child on them."""

    base: Path
    folder: Path
    environment: Mapping[str, str]

    def make(
        self,
        changes: Mapping[str, Any] | None = None,
        *,
        rows: Rows | None = None,
        base: Path | None = None,
        checkpoints: Path | None = None,
        render: bool = True,
    ) -> JobDirectory:
        """A directory with SPEC and the rendered `sums`, or what is given in their place."""
        directory = JobDirectory(Path(tempfile.mkdtemp(dir=self.folder)))
        write_json(directory.spec, {**SPEC, **(changes or {})})
        lines = [canonical_json(trace, split) + b"\n" for trace, split in rows or sums()]
        directory.traces.write_bytes(b"".join(lines))
        directory.base.symlink_to(base or self.base)
        if render:
            render_directory(directory)
        if checkpoints is not None:
            shutil.copytree(checkpoints, directory.checkpoints)
        return directory

    def run(self, directory: JobDirectory) -> Any:
        """Run the child to its end; its outcome."""
        with directory.log.open("wb") as log:
            subprocess.run(
                command(directory), env=self.environment, stdout=log, stderr=log, timeout=200, check=False
            )
        assert directory.outcome.exists(), directory.log.read_text()
        return read_json(directory.outcome)


def command(directory: JobDirectory) -> list[str]:
    return [sys.executable, "-m", "tunix_rt.trainer.job", str(directory.root)]


@pytest.fixture(scope="session")
def jobs(tiny_model: Path, compile_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    environment = {**os.environ, "TUNIX_RT_COMPILE_CACHE": str(compile_cache)}
    return Jobs(tiny_model, tmp_path_factory.mktemp("jobs"), environment)
