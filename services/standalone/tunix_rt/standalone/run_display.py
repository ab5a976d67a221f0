"""The live picture of a training run in the terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tunix_rt.standalone.charts import sparkline
from tunix_rt.standalone.connection import Connection
from tunix_rt.standalone.follow import RunView, watch_run
from tunix_rt.standalone.output import errors
from tunix_rt.standalone.views import duration_text, number_text, state_text
from tunix_rt.v1 import run_pb2 as run_pb

_SHOWN = (
    ("loss", "train/loss"),
    ("validation", "validation/loss"),
    ("learning rate", "train/learning_rate"),
    ("gradient norm", "train/grad_norm"),
    ("tokens/s", "train/tokens_per_second"),
)
_PLAIN_SECONDS = 5.0


def follow_run(connection: Connection, name: str, *, quiet: bool = False) -> run_pb.Run:
    """Shows a run until it has ended and returns it. Ctrl-C leaves the run alone and raises."""
    view = RunView()
    with _display(view, quiet=quiet) as refresh:
        for event in watch_run(connection, name):
            view.apply(event)
            refresh()
    return view.run


@contextmanager
def _display(view: RunView, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Yields what to call after each event."""
    if quiet:
        yield lambda: None
    elif errors.is_terminal:
        with Live(get_renderable=lambda: draw_run(view, time.time()), console=errors, refresh_per_second=4):
            yield lambda: None
    else:
        plain = _PlainLines(view)
        yield plain.refresh
        plain.refresh(force=True)


class _PlainLines:
    """One line every few seconds, for output that is no terminal."""

    def __init__(self, view: RunView) -> None:
        self._view = view
        self._printed = -math.inf

    def refresh(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._printed >= _PLAIN_SECONDS:
            self._printed = now
            errors.print(summary_line(self._view), markup=False, soft_wrap=True)


def summary_line(view: RunView) -> str:
    """The run in one plain line, such as `runs/a running 12/40 loss 1.25`."""
    values = [f"{label} {number_text(value)}" for label, value in _known(view)]
    steps = f"{view.step}/{view.total}" if view.total else str(view.step)
    return " ".join([view.run.name, state_text(view.run.status).plain, steps, *values])


def draw_run(view: RunView, now: float) -> RenderableType:
    """The run as a bar, its values and its loss curve."""
    head = Table.grid(padding=(0, 2))
    remaining = view.remaining_seconds(now)
    head.add_row(
        Text(view.run.name, style="bold"),
        state_text(view.run.status),
        ProgressBar(total=max(view.total, 1), completed=view.step, width=32),
        f"{view.step}/{view.total or '?'}",
        f"{duration_text(remaining)} left" if remaining is not None and not view.ended else "",
    )
    values = Table.grid(padding=(0, 3))
    shown = _known(view)
    if shown:
        values.add_row(*(f"[dim]{label}[/] [bold]{number_text(value)}[/]" for label, value in shown))
    parts: list[RenderableType] = [head, values]
    losses = view.values("train/loss")
    if len(losses) > 1:
        parts.append(Text.from_markup(f"[dim]loss[/] [cyan]{sparkline(losses)}[/]"))
    if view.last_log and not view.ended:
        parts.append(Text.from_markup(f"[dim]{escape(view.last_log[:100])}[/]"))
    return Group(*parts)


def _known(view: RunView) -> list[tuple[str, float]]:
    """The metrics that have a value, with their labels."""
    values = [(label, view.last(metric)) for label, metric in _SHOWN]
    return [(label, value) for label, value in values if value is not None]
