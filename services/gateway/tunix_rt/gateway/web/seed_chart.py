"""Where the scores of seeds stand on an axis that all groups of a comparison share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunix_rt.gateway.seed_sentence import group_sentence
from tunix_rt.v1.gateway_service_pb2 import SeedGroup

STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # between two ticks, as shares
MOST_TICKS = 8


@dataclass(frozen=True)
class SeedDot:
    """The score of one seed; `place` is that of the run among the compared subjects, None for another run."""

    run: str
    seed: int
    score: float
    left: float
    place: int | None


@dataclass(frozen=True)
class SeedRow:
    """One group; positions and widths in percent of the axis."""

    group: SeedGroup
    sentence: str
    dots: Sequence[SeedDot]
    mean: float
    range_left: float
    range_width: float


@dataclass(frozen=True)
class SeedChart:
    """The rows with the ticks of their axis: a share and its place in percent."""

    rows: Sequence[SeedRow]
    ticks: Sequence[tuple[float, float]]


def seed_chart(groups: Sequence[SeedGroup], subjects: Sequence[str]) -> SeedChart | None:
    """The dot plot of all groups; None where there is none."""
    if not groups:
        return None
    values = [value for group in groups for value in (*group.scores, group.low, group.high)]
    least, most = min(values), max(values)
    step = next((step for step in STEPS if (most - least) / step <= MOST_TICKS - 2), STEPS[-1])
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    last = max(last, first + 1)

    def place(value: float) -> float:
        return 100 * (value / step - first) / (last - first)

    rows = [
        SeedRow(
            group=group,
            sentence=group_sentence(group, subjects),
            dots=[
                SeedDot(run, seed, score, place(score), subjects.index(run) if run in subjects else None)
                for run, seed, score in zip(group.runs, group.seeds, group.scores, strict=True)
            ],
            mean=place(group.mean),
            range_left=place(group.low),
            range_width=place(group.high) - place(group.low),
        )
        for group in groups
    ]
    return SeedChart(rows, [(number * step, place(number * step)) for number in range(first, last + 1)])
