"""Says a comparison in words and numbers for people."""

from __future__ import annotations

import math

from tunix_rt.gateway.pairs import deciding_p_value
from tunix_rt.stats.paired import mcnemar_exact
from tunix_rt.v1 import gateway_service_pb2

Pair = gateway_service_pb2.PairedComparison


def subject_label(subject: str) -> str:
    """A short name: `base` of `runs/base`, `smol v1` of `models/smol/versions/v1`."""
    parts = subject.split("/")
    return f"{parts[1]} {parts[3]}" if len(parts) == 4 else parts[-1]


def verdict_sentence(comparison: gateway_service_pb2.Comparison, pair: Pair) -> str:
    """What a pair shows, in one sentence, such as `tuned is better than base: …`."""
    baseline = subject_label(comparison.subjects[0].subject)
    subject = subject_label(pair.subject)
    if pair.verdict == Pair.NO_DETECTABLE_DIFFERENCE:
        return f"No detectable difference between {subject} and {baseline}; {detectable_text(pair)}."
    word = "better" if pair.verdict == Pair.BETTER else "worse"
    points = abs(pair.difference) * 100
    return f"{subject} is {word} than {baseline} by {points:.1f} points."


def detectable_text(pair: Pair) -> str:
    """What the items of a pair can show at all, such as `200 items reveal 8.3 points or more`."""
    items = "item" if pair.count == 1 else "items"
    if pair.minimum_detectable_difference >= 1:
        return f"{pair.count:,} {items} are too few to reveal one"
    return f"{pair.count:,} {items} reveal {pair.minimum_detectable_difference * 100:.1f} points or more"


def evidence_sentence(pair: Pair) -> str:
    """The numbers behind a verdict: difference, interval, flips and the tests."""
    low, high = (end * 100 for end in shown_interval(pair))
    p_value = deciding_p_value(pair)
    tests = [f"{applied_test(pair)} {p_value_text(p_value)}"]
    if pair.adjusted_p_value != p_value:
        tests.append(f"adjusted for several comparisons {p_value_text(pair.adjusted_p_value)}")
    families = f" in {pair.cluster_count} families" if pair.cluster_count else ""
    return (
        f"{pair.difference * 100:+.1f} points on {pair.count:,} items{families}, "
        f"95 % interval {low:+.1f} to {high:+.1f}; "
        f"{pair.gained} gained, {pair.lost} lost; {', '.join(tests)}."
    )


def shown_interval(pair: Pair) -> tuple[float, float]:
    """The interval of the difference: with errors clustered by family where there are families."""
    if pair.HasField("clustered_p_value"):
        return pair.clustered_low, pair.clustered_high
    return pair.difference_low, pair.difference_high


def applied_test(pair: Pair) -> str:
    """The test that decides: by family where there are families, else that of `p_value`."""
    return "permutation of families" if pair.HasField("clustered_p_value") else items_test(pair)


def items_test(pair: Pair) -> str:
    """The test that `p_value` is of: McNemar's where it is that of the items gained and lost."""
    exact = math.isclose(pair.p_value, mcnemar_exact(pair.gained, pair.lost), rel_tol=1e-9)
    return "exact McNemar" if exact else "permutation test"


def p_value_text(value: float) -> str:
    """A p-value with the digits that matter, such as `p = 0.012` or `p < 0.0001`."""
    if value < 0.0001:
        return "p < 0.0001"
    return f"p = {value:.4f}" if value < 0.01 else f"p = {value:.2g}"
