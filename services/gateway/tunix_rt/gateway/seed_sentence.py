"""Says in words what a comparison means over seeds of training."""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.gateway.seed_groups import group_of
from tunix_rt.gateway.sentence import subject_label
from tunix_rt.rpc import names
from tunix_rt.v1.gateway_service_pb2 import Comparison, PairedComparison, SeedGroup


def group_sentence(group: SeedGroup, subjects: Sequence[str]) -> str:
    """The spread of a group, such as `3 seeds of tuned: 41.2 % ± 1.9 …`; `subjects` are the compared ones."""
    compared = " and ".join(subject_label(subject) for subject in subjects if subject in group.runs)
    seeds = f"{len(group.runs)} seeds of {compared}"
    if group.standard_deviation == 0:
        return f"{seeds}: {group.mean * 100:.1f} %, the same for each."
    return (
        f"{seeds}: {group.mean * 100:.1f} % ± {group.standard_deviation * 100:.1f} (standard deviation); "
        f"95 % interval of the mean {group.low * 100:.1f} to {group.high * 100:.1f} %. "
        f"Two runs that differ in their seed only differ by up to {group.chance_difference * 100:.1f} points "
        "in 95 of 100 cases."
    )


def pair_sentence(comparison: Comparison, pair: PairedComparison) -> str:
    """What seeds say of a difference from the baseline; empty where they say nothing."""
    baseline = comparison.subjects[0].subject
    old, new = subject_label(baseline), subject_label(pair.subject)
    groups = [group_of(name, comparison.seed_groups) for name in (baseline, pair.subject)]
    if groups[0] is not None and groups[0] is groups[1]:
        return f"{new} and {old} differ in their seed only: a difference between them is noise of seeds."
    for over in comparison.seed_differences:
        if over.subject == pair.subject:
            told = "more than" if over.low > 0 or over.high < 0 else "within"
            return (
                f"Over seeds {new} differs from {old} by {over.difference * 100:+.1f} points, 95 % interval "
                f"{over.low * 100:+.1f} to {over.high * 100:+.1f} (Welch): {told} the noise of seeds."
            )
    known = groups[0] or groups[1]
    alone = [name for name, group in zip((baseline, pair.subject), groups, strict=True) if group is None]
    if known is None or not alone or not names.matches(alone[0], names.RUN):
        return ""
    told = "within" if abs(pair.difference) <= known.chance_difference else "beyond"
    return (
        f"{subject_label(alone[0])} has one seed. If its seeds vary as those of the other, the difference of "
        f"{abs(pair.difference) * 100:.1f} points is {told} the noise of seeds, "
        f"{known.chance_difference * 100:.1f} points."
    )
