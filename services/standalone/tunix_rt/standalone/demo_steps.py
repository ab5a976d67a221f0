"""The demo's list of steps on the screen: what is done, what runs, how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from tunix_rt.standalone.output import errors


@dataclass(frozen=True)
class Timing:
    """How long a step took."""

    label: str
    seconds: float


class StepHandle:
    """What a running step uses to show how far it is."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self.note_text = ""

    def move(self, done: int, *, total: int | None = None) -> None:
        """Adds to what is done."""
        self._progress.update(self._task, advance=done, total=total)

    def at(self, completed: float, total: float) -> None:
        """Sets how far it is."""
        self._progress.update(self._task, completed=completed, total=total or None)

    def note(self, text: str) -> None:
        """Says what is found so far; the last note stays."""
        self.note_text = text
        self._progress.update(self._task, note=text)


class Steps:
    """Runs steps one after the other and keeps their times."""

    def __init__(self, *, quiet: bool) -> None:
        self.timings: list[Timing] = []
        self._quiet = quiet
        self._live = errors.is_terminal and not quiet
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✔[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}[/]"),
            console=errors,
            disable=not self._live,
        )

    def __enter__(self) -> Steps:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def step(self, label: str) -> Iterator[StepHandle]:
        """One step, from its first to its last line."""
        task = self._progress.add_task(label, total=None, note="")
        handle = StepHandle(self._progress, task)
        began = time.monotonic()
        try:
            yield handle
        except BaseException:
            self._progress.update(task, description=f"[red]✘ {label}[/]")
            self._say(f"✘ {label}")
            raise
        seconds = time.monotonic() - began
        self.timings.append(Timing(label, seconds))
        self._progress.update(task, total=1, completed=1)
        self._say(f"✔ {label} ({seconds:.1f} s) {handle.note_text}".rstrip())

    def _say(self, line: str) -> None:
        if not self._live and not self._quiet:
            errors.print(line, markup=False, soft_wrap=True)
