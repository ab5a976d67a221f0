"""Builds a comparison from what was gathered; pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunix_rt.gateway.evaluation_match import Match
from tunix_rt.gateway.parameters import differing_parameters
from tunix_rt.stats.paired import mcnemar_exact, paired_bootstrap, verdict
from tunix_rt.v1 import evaluation_pb2, gateway_service_pb2, registry_service_pb2, run_pb2

LOSS_METRICS = ("train/loss", "validation/loss")
RATE_METRICS = ("train/steps_per_second", "train/tokens_per_second")
FLIPS_LIMIT = 100
BOOTSTRAP_SEED = 20_251_031

ItemScore = evaluation_pb2.ItemScore
Pair = gateway_service_pb2.PairedComparison
Flip = tuple[ItemScore, ItemScore]
_VERDICTS = {
    "better": Pair.BETTER,
    "worse": Pair.WORSE,
    "no detectable difference": Pair.NO_DETECTABLE_DIFFERENCE,
}


@dataclass(frozen=True)
class Side:
    """What was gathered about one subject; `run` is None for a model version.

    `items` are those of the compared evaluation, empty if there is none.
    """

    subject: str
    run: run_pb2.Run | None = None
    evaluation: evaluation_pb2.Evaluation | None = None
    items: Sequence[ItemScore] = field(default=())


def build_comparison(
    sides: Sequence[Side],
    *,
    match: Match,
    curves: Sequence[registry_service_pb2.Curve],
    rates: Sequence[registry_service_pb2.Curve],
) -> gateway_service_pb2.Comparison:
    """The comparison of all sides with the first.

    `curves` are those of LOSS_METRICS to show, `rates` those of RATE_METRICS
    whose medians are taken.
    """
    reason = match.missing_reason
    baseline, *others = sides
    pairs = [] if reason else [compare_items(baseline, other) for other in others]
    if pairs and any(pair is None for pair in pairs):
        reason = "The evaluations have no item in common."
    return gateway_service_pb2.Comparison(
        subjects=[_summary(side, rates) for side in sides],
        differences=differing_parameters([side.run.spec if side.run else None for side in sides]),
        curves=curves,
        pairs=[] if reason else [pair for pair in pairs if pair is not None],
        pairs_missing_reason=reason,
    )


def compare_items(baseline: Side, side: Side) -> Pair | None:
    """A side against the baseline on the items that both have, by trace id; None if there are none."""
    theirs = {item.trace_id: item for item in side.items}
    both = [(item, theirs[item.trace_id]) for item in baseline.items if item.trace_id in theirs]
    if not both:
        return None
    gained = [(old, new) for old, new in both if _right(new) and not _right(old)]
    lost = [(old, new) for old, new in both if _right(old) and not _right(new)]
    changed = [
        (old, new) for old, new in both if old.outcome != new.outcome and not (_right(old) or _right(new))
    ]
    old_scores, new_scores = [old.score for old, _ in both], [new.score for _, new in both]
    difference = statistics.fmean(new_scores) - statistics.fmean(old_scores)
    interval = paired_bootstrap(old_scores, new_scores, seed=BOOTSTRAP_SEED)
    p_value = mcnemar_exact(len(gained), len(lost))
    return Pair(
        subject=side.subject,
        count=len(both),
        gained=len(gained),
        lost=len(lost),
        difference=difference,
        difference_low=interval.low,
        difference_high=interval.high,
        p_value=p_value,
        verdict=_VERDICTS[verdict(difference, p_value)],
        flips=[_flip(old, new) for old, new in limit_flips(gained, lost, changed=changed)],
    )


def limit_flips(
    gained: Sequence[Flip], lost: Sequence[Flip], *, changed: Sequence[Flip], limit: int = FLIPS_LIMIT
) -> list[Flip]:
    """At most `limit` flips, gained first; a long list of gains leaves half of the room to the losses."""
    kept_lost = min(len(lost), max(limit // 2, limit - len(gained)))
    kept_gained = min(len(gained), limit - kept_lost)
    rest = limit - kept_gained - kept_lost
    return [*gained[:kept_gained], *lost[:kept_lost], *changed[:rest]]


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


def _right(item: ItemScore) -> bool:
    return item.outcome == ItemScore.CORRECT


def _flip(old: ItemScore, new: ItemScore) -> gateway_service_pb2.ItemFlip:
    return gateway_service_pb2.ItemFlip(
        trace_id=old.trace_id,
        prompt=old.prompt,
        expected_answer=old.expected_answer,
        baseline_output=old.output,
        subject_output=new.output,
        baseline_outcome=old.outcome,
        subject_outcome=new.outcome,
    )
