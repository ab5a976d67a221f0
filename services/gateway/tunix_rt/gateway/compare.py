"""Builds a comparison from what was gathered; pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunix_rt.gateway.evaluation_match import Match
from tunix_rt.gateway.parameters import differing_parameters
from tunix_rt.stats.clustered import item_means
from tunix_rt.stats.paired import (
    detectable_difference,
    holm,
    mcnemar_exact,
    paired_bootstrap,
    sign_flip,
    verdict,
)
from tunix_rt.v1 import evaluation_pb2, gateway_service_pb2, registry_service_pb2, run_pb2

LOSS_METRICS = ("train/loss", "validation/loss")
RATE_METRICS = ("train/steps_per_second", "train/tokens_per_second")
FLIPS_LIMIT = 100
LEVEL = 0.05
RANDOM_SEED = 20_251_031

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
    found = [] if reason else [compare_items(baseline, other, pairs=len(others)) for other in others]
    pairs = [pair for pair in found if pair is not None]
    if len(pairs) < len(found):
        reason = "The evaluations have no item in common."
    return gateway_service_pb2.Comparison(
        subjects=[_summary(side, rates) for side in sides],
        differences=differing_parameters([side.run.spec if side.run else None for side in sides]),
        curves=curves,
        pairs=[] if reason else adjust_pairs(pairs),
        pairs_missing_reason=reason,
    )


def compare_items(baseline: Side, side: Side, *, pairs: int = 1) -> Pair | None:
    """A side against the baseline on the items that both have, by trace id; None if there are none.

    The score of an item is the mean over its samples, and an item is right if most of its samples are.
    `p_value` is McNemar's exact test if all items have one sample and a score of 0 or 1, else the
    sign-flip test. The detectable difference is that at the level LEVEL / `pairs`, which holds
    whatever the other pairs of the comparison show; it is 1 where so few items can reveal none.
    """
    old_items, new_items = _by_trace(baseline.items), _by_trace(side.items)
    both = [trace for trace in old_items if trace in new_items]
    if not both:
        return None
    flips = [_shown(old_items[trace], new_items[trace]) for trace in both]
    gained = [(old, new) for old, new in flips if _right(new) and not _right(old)]
    lost = [(old, new) for old, new in flips if _right(old) and not _right(new)]
    changed = [
        (old, new) for old, new in flips if old.outcome != new.outcome and not (_right(old) or _right(new))
    ]
    old_scores, new_scores = _scores(baseline.items, both), _scores(side.items, both)
    difference = statistics.fmean(new_scores) - statistics.fmean(old_scores)
    interval = paired_bootstrap(old_scores, new_scores, seed=RANDOM_SEED)
    permutation = sign_flip(
        [new - old for old, new in zip(old_scores, new_scores, strict=True)], seed=RANDOM_SEED
    )
    single = all(len(own[trace]) == 1 for own in (old_items, new_items) for trace in both)
    exact = single and {*old_scores, *new_scores} <= {0.0, 1.0}
    p_value = mcnemar_exact(len(gained), len(lost)) if exact else permutation
    detectable = detectable_difference(old_scores, new_scores, alpha=LEVEL / pairs)
    return Pair(
        subject=side.subject,
        count=len(both),
        gained=len(gained),
        lost=len(lost),
        difference=difference,
        difference_low=interval.low,
        difference_high=interval.high,
        p_value=p_value,
        adjusted_p_value=p_value,
        permutation_p_value=permutation,
        minimum_detectable_difference=1.0 if detectable is None else detectable,
        verdict=_VERDICTS[verdict(difference, p_value, alpha=LEVEL)],
        flips=[_flip(old, new) for old, new in limit_flips(gained, lost, changed=changed)],
    )


def adjust_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs of one comparison with p-values corrected for their number, and verdicts by these."""
    adjusted = []
    for pair, p_value in zip(pairs, holm([pair.p_value for pair in pairs]), strict=True):
        corrected = Pair()
        corrected.CopyFrom(pair)
        corrected.adjusted_p_value = p_value
        corrected.verdict = _VERDICTS[verdict(pair.difference, p_value, alpha=LEVEL)]
        adjusted.append(corrected)
    return adjusted


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


def _by_trace(items: Sequence[ItemScore]) -> dict[str, list[ItemScore]]:
    samples: dict[str, list[ItemScore]] = {}
    for item in sorted(items, key=lambda item: item.sample):
        samples.setdefault(item.trace_id, []).append(item)
    return samples


def _scores(items: Sequence[ItemScore], traces: Sequence[str]) -> list[float]:
    means = item_means([item.trace_id for item in items], [item.score for item in items])
    return [means[trace] for trace in traces]


def _shown(old: Sequence[ItemScore], new: Sequence[ItemScore]) -> Flip:
    """Of each side the first sample that is as right as most of its samples are."""
    old_right, new_right = (2 * sum(map(_right, samples)) > len(samples) for samples in (old, new))
    return (
        next(item for item in old if _right(item) == old_right),
        next(item for item in new if _right(item) == new_right),
    )


def _right(item: ItemScore) -> bool:
    return item.outcome == ItemScore.CORRECT


def _flip(old: ItemScore, new: ItemScore) -> gateway_service_pb2.ItemFlip:
    return gateway_service_pb2.ItemFlip(
        trace_id=old.trace_id,
        prompt=old.prompt,
        expected_answer=old.expected_answer,
        baseline_output=old.output or old.extracted_answer,
        subject_output=new.output or new.extracted_answer,
        baseline_outcome=old.outcome,
        subject_outcome=new.outcome,
    )
