"""Whether an evaluation holds against a baseline; pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunix_rt.stats.noninferiority import difference_lower_bound
from tunix_rt.traces.trace import family_of, part_name
from tunix_rt.v1 import model_pb2

DEFAULT_MARGIN = 0.02
DEFAULT_CONFIDENCE = 0.95
MAX_LOST = 20
PART_KEYS = ("section", "category", "family", "difficulty")
SAME_WEIGHTS = "same-weights"

Meta = Mapping[str, object]


@dataclass(frozen=True)
class Side:
    """The mean score of each item, those that are right, and whose weights made the outputs."""

    evaluation: str
    scores: Mapping[str, float]
    right: frozenset[str]
    weights_digest: str
    contaminated_count: int = 0


def check(
    baseline: model_pb2.Baseline, old: Side, new: Side, metas: Mapping[str, Meta]
) -> model_pb2.BaselineCheck:
    """The check of an evaluation against a baseline; `metas` are the items' metadata by trace id.

    An item that one side lacks counts as 0 for the evaluation, and as 1 for the baseline.
    """
    items = list(dict.fromkeys([*old.scores, *new.scores]))
    olds = [old.scores.get(item, 1.0) for item in items]
    news = [new.scores.get(item, 0.0) for item in items]
    families = [family_of(metas.get(item, {})) for item in items]
    bound = difference_lower_bound(olds, news, clusters=families, confidence=baseline.confidence)
    same = bool(old.weights_digest) and old.weights_digest == new.weights_digest
    lost = [item for item in items if item in old.right and item not in new.right]
    found = model_pb2.BaselineCheck(
        difference=bound.difference,
        lower_bound=bound.difference if same else bound.low,
        method=SAME_WEIGHTS if same else bound.method,
        cluster_count=0 if same else bound.clusters,
        item_count=len(items),
        missing_count=len(old.scores.keys() ^ new.scores.keys()),
        baseline_score=statistics.fmean(olds),
        score=statistics.fmean(news),
        lost_items=lost[:MAX_LOST],
        lost_count=len(lost),
        baseline=baseline,
        evaluation=new.evaluation,
        floors=[_floor(each, items, olds, news, metas=metas) for each in baseline.floors],
    )
    found.reasons.extend(_reasons(found, new))
    found.passed = not found.reasons
    return found


def is_in(part: str, meta: Meta) -> bool:
    """Whether an item belongs to a part, `units` or `family=chain_sum`."""
    key, separator, value = part.partition("=")
    return part_name(meta, key) == value if separator else part_name(meta, "section") == part


def part_fault(part: str) -> str:
    """What is wrong with the name of a part; empty if nothing is."""
    key, separator, value = part.partition("=")
    if not key or (separator and (key not in PART_KEYS or not value)):
        forms = ", ".join(f"`{known}=…`" for known in PART_KEYS)
        return f"is `{part[:80]}`; give the name of a section, or one of {forms}."
    return ""


def _floor(
    floor: model_pb2.SectionFloor,
    items: Sequence[str],
    olds: Sequence[float],
    news: Sequence[float],
    *,
    metas: Mapping[str, Meta],
) -> model_pb2.FloorCheck:
    own = [index for index, item in enumerate(items) if is_in(floor.section, metas.get(item, {}))]
    score = statistics.fmean(news[index] for index in own) if own else 0.0
    return model_pb2.FloorCheck(
        section=floor.section,
        min_score=floor.min_score,
        score=score,
        baseline_score=statistics.fmean(olds[index] for index in own) if own else 0.0,
        item_count=len(own),
        passed=bool(own) and (score >= floor.min_score or math.isclose(score, floor.min_score)),
    )


def _reasons(check: model_pb2.BaselineCheck, new: Side) -> list[str]:
    reasons = []
    margin = check.baseline.margin
    if check.method != SAME_WEIGHTS and not check.lower_bound > -margin:
        missing = f", {check.missing_count} of them on one side only" if check.missing_count else ""
        reasons.append(
            f"{check.score:.3f} against {check.baseline_score:.3f} on {check.item_count} items{missing}: the"
            f" lower bound {check.lower_bound:+.3f} of the difference {check.difference:+.3f} is not over"
            f" {-margin:+.3f}."
        )
    reasons += [
        f"Section `{floor.section}`: {floor.score:.3f} is below the floor {floor.min_score:.3f}; the baseline"
        f" has {floor.baseline_score:.3f} on these {floor.item_count} items."
        for floor in check.floors
        if not floor.passed
    ]
    if new.contaminated_count:
        reasons.append(
            f"{new.contaminated_count} items also occur in the training data, so the score proves nothing."
        )
    return reasons
