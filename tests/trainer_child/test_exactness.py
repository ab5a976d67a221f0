"""A run that is killed again and again, anywhere, ends with the bytes of one that is not."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from tunix_rt.jobs.directory import JobDirectory, read_json
from tunix_rt.trainer.job import COMPILE_CACHE, main
from tunix_rt.trainer.telemetry import MACHINE_METRICS

STEPS = 24
# What differs between runs that must each be exact.
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora in micro-batches": {"lora": {"rank": 4}, "batch_size": 4, "micro_batch_size": 2},
}
SPEC = {"steps": STEPS, "checkpoint_every": 3, "retention": {"best_metric": "validation/loss"}}
KILLS = 3

# Processes of their own, forked from one that has imported what starts none of JAX's threads.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["flax.nnx", "optax", "tunix_rt.lm.tokenizer"])


def work(root: str, compile_cache: str, cores: int | None) -> None:
    """What `python -m tunix_rt.trainer.job` does, on so many cores."""
    os.environ[COMPILE_CACHE] = compile_cache
    if cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    os.dup2(os.open(f"{root}/log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os._exit(main([root]))


def start(jobs, directory: JobDirectory, cores: int | None = None) -> BaseProcess:
    process = processes.Process(
        target=work, args=(str(directory.root), jobs.environment[COMPILE_CACHE], cores)
    )
    process.start()
    return process


def finish(jobs, directory: JobDirectory, cores: int | None = None) -> JobDirectory:
    process = start(jobs, directory, cores)
    process.join(60)
    assert process.exitcode == 0, directory.log.read_text()
    assert read_json(directory.outcome) == {"state": "succeeded"}
    return directory


def until_step(process: BaseProcess, directory: JobDirectory, step: int) -> None:
    """Waits until the process has measured the step, or has ended."""
    while process.is_alive() and last_step(directory) < step:
        process.join(0.002)


def last_step(directory: JobDirectory) -> int:
    lines = directory.metrics.read_text().splitlines() if directory.metrics.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}}")), default=0)


def files_of(directory: JobDirectory) -> dict[str, bytes]:
    """What a run leaves, byte for byte."""
    found = sorted(path for path in directory.model.rglob("*") if path.is_file())
    return {path.relative_to(directory.model).as_posix(): path.read_bytes() for path in found}


def measured(directory: JobDirectory) -> list[tuple[int, dict[str, float]]]:
    """By step, what depends on the model and not on the clock."""
    rows = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    return [
        (row["step"], {name: value for name, value in row["values"].items() if name not in MACHINE_METRICS})
        for row in rows
    ]


@pytest.fixture(scope="module", params=VARIANTS)
def unbroken(request, jobs) -> tuple[JobDirectory, dict[str, Any]]:
    changes = SPEC | VARIANTS[request.param]
    return finish(jobs, jobs.make(changes)), changes


def test_a_run_killed_at_random_points_ends_with_the_same_bytes(unbroken, jobs):
    whole, changes = unbroken
    broken, points = jobs.make(changes), random.Random(str(changes))
    for point in sorted(points.sample(range(2, STEPS - 1), KILLS)):
        process = start(jobs, broken)
        until_step(process, broken, point)
        process.join(points.uniform(0, 0.02))  # anywhere in a step or in the writing of a checkpoint
        process.kill()
        process.join()
        assert not broken.model.exists()
    finish(jobs, broken)
    assert files_of(broken) == files_of(whole)
    assert measured(broken) == measured(whole)


def test_the_same_spec_gives_the_same_bytes_on_another_number_of_cores(unbroken, jobs):
    whole, changes = unbroken
    again = finish(jobs, jobs.make(changes), cores=1)
    assert files_of(again) == files_of(whole)
    assert measured(again) == measured(whole)


def test_a_stopped_run_has_saved_within_thirty_seconds_and_goes_on_elsewhere(unbroken, jobs):
    whole, changes = unbroken
    stopped = jobs.make(changes)
    process = start(jobs, stopped)
    until_step(process, stopped, 7)
    process.terminate()
    process.join(30)
    assert process.exitcode == 0
    outcome = read_json(stopped.outcome)
    assert outcome["state"] == "stopped"
    assert stopped.complete_checkpoints()[-1][0] == outcome["step"] < STEPS
    elsewhere = finish(jobs, jobs.make(changes, checkpoints=stopped.checkpoints))
    assert files_of(elsewhere) == files_of(whole)
