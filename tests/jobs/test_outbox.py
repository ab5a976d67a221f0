"""The outbox: nothing is lost and nothing doubled, whatever happens to the registry."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.jobs.directory import JobDirectory, metric_line
from tunix_rt.jobs.outbox import Shipped, ship_logs, ship_metrics
from tunix_rt.jobs.remote import LeaseLost
from tunix_rt.jobs.tail import whole_lines_bytes
from tunix_rt.rpc.errors import Internal


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory(tmp_path)


def write(directory: JobDirectory, first: int, last: int) -> None:
    with directory.metrics.open("a") as file:
        for step in range(first, last + 1):
            file.write(metric_line(step, step / 10, {"train/loss": 1 / step, "a": step}))


def expected(last: int) -> list[tuple[str, int, float]]:
    return [
        pair for step in range(1, last + 1) for pair in (("a", step, step), ("train/loss", step, 1 / step))
    ]


async def stored(jobs: Any, kept: list[Any], count: int) -> None:
    async with asyncio.timeout(20), jobs.stored:
        await jobs.stored.wait_for(lambda: len(kept) >= count)


async def test_points_arrive_while_the_job_runs_and_the_tail_before_the_end(
    server: Any, directory: JobDirectory
) -> None:
    ended, shipped = asyncio.Event(), Shipped()
    shipping = asyncio.ensure_future(
        ship_metrics(server.stub(), directory, "runs/r", 2, ended, shipped=shipped)
    )
    write(directory, 1, 3)
    await stored(server.jobs, server.jobs.points, 6)
    async with asyncio.timeout(20):
        await shipped.reaches(whole_lines_bytes(directory.metrics))
    write(directory, 4, 3000)
    ended.set()
    await shipping
    assert server.jobs.points == expected(3000)
    assert server.jobs.largest <= 1000
    assert server.jobs.streams == 1


async def test_a_job_without_metrics_ends(server: Any, directory: JobDirectory) -> None:
    ended = asyncio.Event()
    ended.set()
    await ship_metrics(server.stub(), directory, "runs/r", 2, ended)
    assert server.jobs.points == []


async def test_streams_that_break_before_the_acknowledgement_lose_and_double_nothing(
    server: Any, directory: JobDirectory
) -> None:
    server.jobs.drop_every = 2
    write(directory, 1, 4000)
    ended = asyncio.Event()
    ended.set()
    await ship_metrics(server.stub(), directory, "runs/r", 2, ended)
    assert server.jobs.points == expected(4000)
    assert server.jobs.streams > 3


async def test_an_outage_loses_and_doubles_nothing(server: Any, directory: JobDirectory) -> None:
    ended = asyncio.Event()
    shipping = asyncio.ensure_future(ship_metrics(server.stub(), directory, "runs/r", 2, ended))
    write(directory, 1, 50)
    await stored(server.jobs, server.jobs.points, 100)
    await server.stop()
    write(directory, 51, 100)
    ended.set()
    done, _ = await asyncio.wait({shipping}, timeout=0.5)
    assert not done
    await server.start()
    async with asyncio.timeout(20):
        await shipping
    assert server.jobs.points == expected(100)


async def test_a_registry_with_a_bug_does_not_end_a_running_job(
    server: Any, directory: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunix_rt.jobs.outbox.BUG_PATIENCE", 2)
    server.jobs.failures = 4
    ended = asyncio.Event()
    shipping = asyncio.ensure_future(ship_metrics(server.stub(), directory, "runs/r", 2, ended))
    write(directory, 1, 5)
    await stored(server.jobs, server.jobs.points, 10)
    server.jobs.failures = 3  # the first ends a stream that has stored something
    write(directory, 6, 6)
    ended.set()
    with pytest.raises(Internal):
        await shipping


async def test_log_lines_arrive_with_the_last_one_that_has_no_line_end(
    server: Any, directory: JobDirectory
) -> None:
    directory.log.write_text("one\ntwo\nthree")
    ended = asyncio.Event()
    ended.set()
    await ship_logs(server.stub(), directory, "runs/r", 2, ended)
    assert server.jobs.lines == ["one", "two", "three"]


async def test_a_fenced_attempt_stops(server: Any, directory: JobDirectory) -> None:
    server.jobs.fenced = True
    with pytest.raises(LeaseLost):
        await ship_metrics(server.stub(), directory, "runs/r", 2, asyncio.Event())


async def test_an_attempt_that_is_fenced_in_mid_stream_stops(server: Any, directory: JobDirectory) -> None:
    shipping = asyncio.ensure_future(ship_metrics(server.stub(), directory, "runs/r", 2, asyncio.Event()))
    write(directory, 1, 1)
    await stored(server.jobs, server.jobs.points, 2)
    server.jobs.fenced = True
    write(directory, 2, 2)
    with pytest.raises(LeaseLost):
        await shipping
    assert server.jobs.points == expected(1)


async def test_a_broken_line_is_an_error(server: Any, directory: JobDirectory) -> None:
    directory.metrics.write_text("nonsense\n")
    with pytest.raises(ValueError, match="broken line"):
        await ship_metrics(server.stub(), directory, "runs/r", 2, asyncio.Event())
