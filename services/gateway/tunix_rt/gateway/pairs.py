"""Pairs the items of two evaluations and tests whether one is better; pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tunix_rt.stats.clustered import MIN_CLUSTERS, item_means
from tunix_rt.stats.clustered_pairs import ClusteredDifference, clustered_difference
from tunix_rt.stats.paired import (
    detectable_difference,
    holm,
    mcnemar_exact,
    paired_bootstrap,
    sign_flip,
    verdict,
)
from tunix_rt.v1 import evaluation_pb2, gateway_service_pb2, run_pb2

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
    """What was gathered about one subject; `run` is None for what is no run.

    `items` are those of the compared evaluation, empty if there is none.
    """

    subject: str
    run: run_pb2.Run | None = None
    evaluation: evaluation_pb2.Evaluation | None = None
    items: Sequence[ItemScore] = field(default=())


def compare_items(
    baseline: Side, side: Side, *, pairs: int = 1, families: Mapping[str, str] | None = None
) -> Pair | None:
    """A side against the baseline on the items that both have, by trace id; None if there are none.

    The score of an item is the mean over its samples, and an item is right if most of its samples are.
    `p_value` is McNemar's exact test if all items have one sample and a score of 0 or 1, else the
    sign-flip test. Where all items have one of MIN_CLUSTERS families or more, the test with errors
    clustered by family stands beside it and decides. The detectable difference is that at the level
    LEVEL / `pairs`, which holds whatever the other pairs of the comparison show; it is 1 where so few
    items can reveal none.
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
    by_family = _by_family(old_scores, new_scores, [(families or {}).get(trace, "") for trace in both])
    detectable = detectable_difference(
        old_scores,
        new_scores,
        alpha=LEVEL / pairs,
        design_effect=by_family.design_effect if by_family else 1.0,
    )
    pair = Pair(
        subject=side.subject,
        count=len(both),
        gained=len(gained),
        lost=len(lost),
        difference=difference,
        difference_low=interval.low,
        difference_high=interval.high,
        p_value=p_value,
        permutation_p_value=permutation,
        minimum_detectable_difference=1.0 if detectable is None else detectable,
        flips=[_flip(old, new) for old, new in limit_flips(gained, lost, changed=changed)],
    )
    if by_family:
        pair.cluster_count = by_family.clusters
        pair.clustered_low, pair.clustered_high = by_family.interval.low, by_family.interval.high
        pair.clustered_p_value = by_family.p_value
    return adjust_pairs([pair])[0]


def deciding_p_value(pair: Pair) -> float:
    """That with errors clustered by family where there is one: items of one family are not independent."""
    return pair.clustered_p_value if pair.HasField("clustered_p_value") else pair.p_value


def adjust_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs of one comparison with p-values corrected for their number, and verdicts by these."""
    adjusted = []
    for pair, p_value in zip(pairs, holm([deciding_p_value(pair) for pair in pairs]), strict=True):
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


def _by_family(
    old_scores: Sequence[float], new_scores: Sequence[float], families: Sequence[str]
) -> ClusteredDifference | None:
    """The clustered comparison; None unless every item has a family and there are enough of them."""
    if not all(families) or len(set(families)) < MIN_CLUSTERS:
        return None
    return clustered_difference(old_scores, new_scores, clusters=families, seed=RANDOM_SEED)


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
