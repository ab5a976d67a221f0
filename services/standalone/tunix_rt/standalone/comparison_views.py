"""Comparisons in the terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunix_rt.gateway.pairs import deciding_p_value
from tunix_rt.gateway.seed_sentence import group_sentence, pair_sentence
from tunix_rt.gateway.sentence import applied_test, shown_interval
from tunix_rt.standalone.charts import sparkline
from tunix_rt.standalone.output import new_table
from tunix_rt.standalone.views import number_text, outcome_text, probability_text, score_text
from tunix_rt.v1 import evaluation_pb2 as evaluation_pb
from tunix_rt.v1 import gateway_service_pb2 as gateway_pb

_MAX_FLIPS = 10
_MAX_TEXT = 200
_MAX_LINES = 6


def verdict_sentence(pair: gateway_pb.PairedComparison, baseline: str) -> str:
    """What the paired test says, in one sentence; without a difference, what it could have shown."""
    kind = gateway_pb.PairedComparison
    verdict = {
        kind.BETTER: f"{pair.subject} is better than {baseline}",
        kind.WORSE: f"{pair.subject} is worse than {baseline}",
    }.get(pair.verdict, f"No detectable difference between {pair.subject} and {baseline}")
    p_value = deciding_p_value(pair)
    test = f"{applied_test(pair)} p = {probability_text(p_value)}"
    if pair.adjusted_p_value != p_value:
        test += f", adjusted {probability_text(pair.adjusted_p_value)}"
    if pair.verdict == kind.NO_DETECTABLE_DIFFERENCE:
        test += f"; {_detectable(pair)}"
    low, high = (end * 100 for end in shown_interval(pair))
    families = f" in {pair.cluster_count} families" if pair.cluster_count else ""
    return (
        f"{verdict}: {pair.difference * 100:+.1f} points [{low:+.1f}, {high:+.1f}], "
        f"{pair.gained} gained and {pair.lost} lost of {pair.count} items{families}, {test}."
    )


def comparison_view(comparison: gateway_pb.Comparison) -> RenderableType:
    """A comparison: verdicts, key figures, parameters that differ, loss curves, flips."""
    baseline = comparison.subjects[0].subject if comparison.subjects else ""
    parts: list[RenderableType] = [
        Text(verdict_sentence(pair, baseline), style="bold") for pair in comparison.pairs
    ]
    if comparison.pairs_missing_reason:
        parts.append(Text(f"No paired test: {comparison.pairs_missing_reason}", style="yellow"))
    if comparison.pairs:
        parts.append(pair_table(comparison))
    parts += seed_lines(comparison)
    parts.append(subject_table(comparison))
    differences = _differences(comparison)
    if differences.row_count:
        parts.append(differences)
    if comparison.curves:
        parts.append(_curves(comparison))
    parts += [_flips(pair) for pair in comparison.pairs if pair.gained + pair.lost]
    return Group(*parts)


def pair_table(comparison: gateway_pb.Comparison) -> Table:
    """The paired differences from the baseline with their tests, a row for each subject.

    The columns of families are there where some pair has any; the test beside them takes items as
    independent.
    """
    families = any(pair.cluster_count for pair in comparison.pairs)
    by_family = ["Families", "p (families)"] if families else []
    columns = ("Subject", "Difference (95 % interval)", *by_family, "p (items)", "p (permutation)")
    table = new_table(*columns, "p (adjusted)", "Detectable from", title="Paired differences")
    for pair in comparison.pairs:
        low, high = (end * 100 for end in shown_interval(pair))
        clustered = pair.HasField("clustered_p_value")
        own = [str(pair.cluster_count), probability_text(pair.clustered_p_value)] if clustered else ["–"] * 2
        shown = pair.minimum_detectable_difference < 1
        table.add_row(
            pair.subject,
            f"{pair.difference * 100:+.1f} [{low:+.1f}, {high:+.1f}]",
            *(own if families else []),
            probability_text(pair.p_value),
            probability_text(pair.permutation_p_value),
            probability_text(pair.adjusted_p_value),
            f"{pair.minimum_detectable_difference * 100:.1f} points" if shown else "too few items",
        )
    return table


def seed_lines(comparison: gateway_pb.Comparison) -> list[Text]:
    """What other seeds of the compared runs say: first of each difference, then of each group."""
    subjects = [subject.subject for subject in comparison.subjects]
    sentences = [pair_sentence(comparison, pair) for pair in comparison.pairs]
    lines = [Text(sentence) for sentence in sentences if sentence]
    for group in comparison.seed_groups:
        scores = ", ".join(
            f"{score * 100:.1f} % (seed {seed})"
            for seed, score in zip(group.seeds, group.scores, strict=True)
        )
        lines.append(Text(f"{group_sentence(group, subjects)} Scores: {scores}."))
    return lines


def subject_table(comparison: gateway_pb.Comparison) -> Table:
    """Key figures, a column for each subject."""
    table = new_table("", *(subject.subject for subject in comparison.subjects), title="Key figures")
    rows: dict[str, Callable[[gateway_pb.ComparedSubject], str]] = {
        "score (95 % interval)": _score,
        "outcomes": lambda s: outcome_text(s.evaluation.result.outcomes) if _scored(s) else "–",
        "answer found": lambda s: f"{s.evaluation.result.extracted_rate * 100:.0f} %" if _scored(s) else "–",
        "generated tokens/s": lambda s: number_text(
            (s.evaluation.result.tokens_per_second or None) if _scored(s) else None
        ),
        "final loss": lambda s: _optional(s, "final_loss"),
        "best validation loss": lambda s: _optional(s, "best_validation_loss"),
        "steps/s": lambda s: _optional(s, "steps_per_second"),
        "trained tokens/s": lambda s: _optional(s, "tokens_per_second"),
    }
    for label, value in rows.items():
        table.add_row(label, *(value(subject) for subject in comparison.subjects))
    return table


def _detectable(pair: gateway_pb.PairedComparison) -> str:
    if pair.minimum_detectable_difference >= 1:
        return "so few items reveal none"
    return f"so many items reveal {pair.minimum_detectable_difference * 100:.1f} points or more"


def _scored(subject: gateway_pb.ComparedSubject) -> bool:
    return subject.HasField("evaluation") and subject.evaluation.HasField("result")


def _score(subject: gateway_pb.ComparedSubject) -> str:
    return score_text(subject.evaluation.result.score) if _scored(subject) else "–"


def _optional(subject: gateway_pb.ComparedSubject, field: str) -> str:
    present = any(descriptor.name == field for descriptor, _ in subject.ListFields())
    return number_text(getattr(subject, field)) if present else "–"


def _differences(comparison: gateway_pb.Comparison) -> Table:
    names = (subject.subject for subject in comparison.subjects)
    table = new_table("Parameter", *names, title="What differs")
    for difference in comparison.differences:
        if sum(bool(value) for value in difference.values) < 2:
            continue  # only one side was trained: `runs show` has its spec
        table.add_row(difference.path, *(Text(value or "–") for value in difference.values))
    return table


def _curves(comparison: gateway_pb.Comparison) -> Table:
    table = new_table("Curve", "Run", "", "first → last", "points", title="Loss")
    for curve in comparison.curves:
        table.add_row(
            curve.metric,
            curve.run,
            Text(sparkline(curve.values), style="cyan"),
            f"{number_text(curve.values[0])} → {number_text(curve.values[-1])}",
            f"{len(curve.values)} of {curve.total_count}",
        )
    return table


def _flips(pair: gateway_pb.PairedComparison) -> Table:
    flips = [(flip_label(flip), flip) for flip in pair.flips]
    shown = [(label, flip) for label, flip in flips if label][:_MAX_FLIPS]
    title = f"Items gained and lost ({len(shown)} of {pair.gained + pair.lost} shown)"
    columns = ("", "Question", "Expected", "Baseline wrote", "Subject wrote")
    table = new_table(*columns, title=title, lines=True)
    for label, flip in shown:
        texts = (flip.prompt, flip.expected_answer, flip.baseline_output, flip.subject_output)
        style = "green" if label == "gained" else "red"
        table.add_row(Text(label, style=style), *(Text(short_text(text)) for text in texts))
    return table


def flip_label(flip: gateway_pb.ItemFlip) -> str:
    """`gained` or `lost`; empty where both sides are wrong in different ways."""
    correct = evaluation_pb.ItemScore.CORRECT
    if flip.subject_outcome == correct:
        return "gained"
    return "lost" if flip.baseline_outcome == correct else ""


def short_text(text: str) -> str:
    """The text without blank lines, at most six lines and 200 characters."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    cut = "\n".join(lines[:_MAX_LINES])[:_MAX_TEXT]
    return cut if cut == "\n".join(lines) else cut + " …"
