"""Groups runs that differ in their seed only, and compares subjects over seeds; pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tunix_rt.rpc import names
from tunix_rt.stats.seeds import seed_spread, welch_interval
from tunix_rt.v1 import run_pb2
from tunix_rt.v1.gateway_service_pb2 import SeedDifference, SeedGroup


@dataclass(frozen=True)
class SeedRun:
    """A run with the score of an evaluation that is comparable with the compared one."""

    run: run_pb2.Run
    score: float


def recipe(run: run_pb2.Run) -> bytes:
    """What a run was trained with but for the seed; equal for runs that differ in nothing else.

    What is done after training does not count.
    """
    spec = run_pb2.RunSpec()
    spec.CopyFrom(run.spec)
    spec.ClearField("seed")
    spec.ClearField("evaluate_after")
    return spec.SerializeToString(deterministic=True)


def group_seeds(compared: Sequence[SeedRun], siblings: Sequence[SeedRun]) -> list[SeedGroup]:
    """The groups of two or more seeds with a compared run each, in the order of the compared runs.

    Runs of one seed are repetitions and no further evidence: a compared one stands for them, else the
    first of `siblings`.
    """
    of_recipe: dict[bytes, dict[int, SeedRun]] = {recipe(own.run): {} for own in compared}
    for own in (*compared, *siblings):
        of_seed = of_recipe.get(recipe(own.run))
        if of_seed is not None:
            of_seed.setdefault(own.run.spec.seed, own)
    return [_group(of_seed) for of_seed in of_recipe.values() if len(of_seed) > 1]


def seed_differences(
    scores: Sequence[tuple[str, float]], groups: Sequence[SeedGroup]
) -> Iterator[SeedDifference]:
    """Each subject but the first against the first over seeds, where that can be said.

    `scores` are the subjects with the score of their compared evaluation, which stands alone for what is
    no run. A run without a group may be any of its seeds, so that nothing can be said of it.
    """
    baseline = group_of(scores[0][0], groups)
    for subject, score in scores[1:]:
        group = group_of(subject, groups)
        same = group is not None and group is baseline
        if same or not all(_known(name, groups) for name in (scores[0][0], subject)):
            continue
        old, new = baseline.scores if baseline else [scores[0][1]], group.scores if group else [score]
        interval = welch_interval(old, new)
        if interval is not None:
            yield SeedDifference(
                subject=subject,
                difference=statistics.fmean(new) - statistics.fmean(old),
                low=max(-1.0, interval.low),
                high=min(1.0, interval.high),
            )


def group_of(subject: str, groups: Iterable[SeedGroup]) -> SeedGroup | None:
    """The group that a subject is in."""
    return next((group for group in groups if subject in group.runs), None)


def _known(subject: str, groups: Sequence[SeedGroup]) -> bool:
    return group_of(subject, groups) is not None or not names.matches(subject, names.RUN)


def _group(of_seed: dict[int, SeedRun]) -> SeedGroup:
    seeds = sorted(of_seed)
    scores = [of_seed[seed].score for seed in seeds]
    spread = seed_spread(scores)
    return SeedGroup(
        runs=[of_seed[seed].run.name for seed in seeds],
        seeds=seeds,
        scores=scores,
        mean=spread.mean,
        standard_deviation=spread.deviation,
        low=max(0.0, spread.interval.low),
        high=min(1.0, spread.interval.high),
        chance_difference=min(1.0, spread.chance_difference),
    )
