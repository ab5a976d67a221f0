"""Builds a comparison from what was gathered; pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from tunix_rt.gateway.evaluation_match import Match
from tunix_rt.gateway.pairs import Side, adjust_pairs, compare_items
from tunix_rt.gateway.parameters import differing_parameters
from tunix_rt.gateway.seed_groups import SeedRun, group_seeds, seed_differences
from tunix_rt.v1 import gateway_service_pb2, registry_service_pb2

LOSS_METRICS = ("train/loss", "validation/loss")
RATE_METRICS = ("train/steps_per_second", "train/tokens_per_second")


def build_comparison(
    sides: Sequence[Side],
    *,
    match: Match,
    curves: Sequence[registry_service_pb2.Curve],
    rates: Sequence[registry_service_pb2.Curve],
    families: Mapping[str, str] | None = None,
    siblings: Sequence[SeedRun] = (),
) -> gateway_service_pb2.Comparison:
    """The comparison of all sides with the first.

    `curves` are those of LOSS_METRICS to show, `rates` those of RATE_METRICS
    whose medians are taken. `families` are those of the items by trace id;
    `siblings` runs with comparable evaluations that may differ in their seed only.
    """
    reason = match.missing_reason
    baseline, *others = sides
    pairs = []
    if not reason:
        found = (compare_items(baseline, other, pairs=len(others), families=families) for other in others)
        pairs = [pair for pair in found if pair is not None]
    if not reason and len(pairs) < len(others):
        reason = "The evaluations have no item in common."
    groups = [] if reason else group_seeds(compared_runs(sides), siblings)
    scores = [(side.subject, side.evaluation.result.score.mean) for side in sides if side.evaluation]
    return gateway_service_pb2.Comparison(
        subjects=[_summary(side, rates) for side in sides],
        differences=differing_parameters([side.run.spec if side.run else None for side in sides]),
        curves=curves,
        pairs=[] if reason else adjust_pairs(pairs),
        pairs_missing_reason=reason,
        seed_groups=groups,
        seed_differences=seed_differences(scores, groups) if groups else [],
    )


def compared_runs(sides: Sequence[Side]) -> list[SeedRun]:
    """The runs among the sides that have a scored evaluation."""
    return [
        SeedRun(side.run, side.evaluation.result.score.mean)
        for side in sides
        if side.run is not None and side.evaluation is not None and side.evaluation.HasField("result")
    ]


def _summary(side: Side, rates: Sequence[registry_service_pb2.Curve]) -> gateway_service_pb2.ComparedSubject:
    compared = gateway_service_pb2.ComparedSubject(
        subject=side.subject, run=side.run, evaluation=side.evaluation
    )
    if side.run is None:
        return compared
    summaries = {summary.metric: summary for summary in side.run.metrics}
    train, validation = (summaries.get(metric) for metric in LOSS_METRICS)
    if train:
        compared.final_loss = train.last
    if validation:
        compared.best_validation_loss = validation.min
    steps, tokens = (_median(rates, side.run.name, metric) for metric in RATE_METRICS)
    if steps is not None:
        compared.steps_per_second = steps
    if tokens is not None:
        compared.tokens_per_second = tokens
    return compared


def _median(rates: Sequence[registry_service_pb2.Curve], run: str, metric: str) -> float | None:
    values = [
        value for curve in rates if curve.run == run and curve.metric == metric for value in curve.values
    ]
    return statistics.median(values) if values else None
