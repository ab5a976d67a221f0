"""Progress bars on standard error, so that standard output stays for results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from tunix_rt.standalone.output import errors
from tunix_rt.standalone.transfers import Advance


@contextmanager
def byte_bar(label: str, total: int, *, quiet: bool = False) -> Iterator[Advance]:
    """A bar over bytes."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with _bar(Progress(*columns, console=errors, disable=quiet), label, total) as advance:
        yield advance


class Counter(Protocol):
    """Moves a bar on; `total` may become known later."""

    def __call__(self, done: int, *, total: int | None = None) -> None:
        """Adds to what is done."""


@contextmanager
def count_bar(label: str, total: int, *, quiet: bool = False) -> Iterator[Counter]:
    """A bar over a number of things."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _bar(Progress(*columns, console=errors, disable=quiet), label, total) as advance:
        yield advance


@contextmanager
def spinner(label: str, *, quiet: bool = False) -> Iterator[None]:
    """A sign of life for work whose length is not known."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=errors, disable=quiet, transient=True) as progress:
        progress.add_task(label, total=None)
        yield


@contextmanager
def _bar(progress: Progress, label: str, total: int) -> Iterator[Counter]:
    with progress:
        task = progress.add_task(label, total=total or None)

        def move(done: int, *, total: int | None = None) -> None:
            progress.update(task, advance=done, total=total)

        yield move
