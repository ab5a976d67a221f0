"""What the page of an evaluation says beside the plain score."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunix_rt.answers.reasoning_words import reasoning_sentences, summary_of
from tunix_rt.answers.steps import find_steps
from tunix_rt.gateway.web.text import number, outcome_word
from tunix_rt.judges.words import calibration_rows, calibration_sentences, calibration_verdict
from tunix_rt.v1 import evaluation_pb2

LONGEST_STEP = 40  # characters; a step that ends so near a cut may go on behind it
MARKED_CHARACTERS = 4000  # of each output; so a page of long outputs takes no time that one would notice
CHART_WIDTH, CHART_HEIGHT = 480, 150

_RULES = {
    "majority-answer": "the most frequent answer",
    "constant": "one constant",
    "number-in-question": "a number from the question",
    "uniform-choice": "any choice",
    "majority-choice": "the most frequent place",
}
_METHODS = {
    "wilson": "Wilson",
    "clustered": "normal with clustered errors",
    "bca": "bootstrap (BCa)",
}


@dataclass(frozen=True)
class ScoreRow:
    """A score with its name and what it says."""

    name: str
    note: str
    score: evaluation_pb2.Score


@dataclass(frozen=True)
class Part:
    """A piece of an output; `kind` is empty or `false-step`."""

    text: str
    kind: str


@dataclass(frozen=True)
class ChartPoint:
    """A value at k samples with its place in the chart, in pixels from the left and the top."""

    k: int
    mean: float
    x: float
    y: float
    low_y: float
    high_y: float


@dataclass(frozen=True)
class ChartLine:
    """One curve over k."""

    name: str
    points: Sequence[ChartPoint]

    @property
    def path(self) -> str:
        """The line through the points."""
        return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in self.points)

    @property
    def band(self) -> str:
        """The outline of the intervals."""
        top = [f"{point.x:.1f},{point.high_y:.1f}" for point in self.points]
        bottom = [f"{point.x:.1f},{point.low_y:.1f}" for point in reversed(self.points)]
        return " ".join([*top, *bottom])


def score_rows(result: evaluation_pb2.EvaluationResult) -> list[ScoreRow]:
    """The score, and those of its variants that were computed."""
    name = "Token probability" if result.outcomes.scored else "Score"
    rows = [ScoreRow(name, f"all {result.score.count:,} items", result.score)]
    variants = (
        ("strict_score", "Strict", "answers in the asked-for format only"),
        ("completed_score", "Completed", f"the {result.completed_score.count:,} that stopped by themselves"),
        (
            "clustered_score",
            "Clustered",
            f"errors in {result.clustered_score.cluster_count:,} clusters",
        ),
    )
    for field, name, note in variants:
        if result.HasField(field):  # type: ignore[arg-type]
            rows.append(ScoreRow(name, note, getattr(result, field)))
    for each in result.normalizations:
        divided = "not divided" if each.name == "none" else f"divided by the {each.name} of the choice"
        rows.append(ScoreRow(f"By {each.name}", f"log-likelihood {divided}", each.score))
    return rows


def likelihood_tiles(result: evaluation_pb2.EvaluationResult) -> list[tuple[str, str]]:
    """How probable the reference texts are, as names and values; nothing where this was not measured."""
    if not result.HasField("likelihood"):
        return []
    found = result.likelihood
    low, high = number(found.perplexity_low), number(found.perplexity_high)
    return [
        ("Perplexity", f"{number(found.perplexity)} ({low}–{high})"),
        ("Bits a byte", number(found.bits_per_byte)),
        ("Reference text", f"{found.token_count:,} tokens, {found.byte_count:,} bytes"),
    ]


def all_outcomes(counts: evaluation_pb2.OutcomeCounts) -> int:
    """The number of outputs, whatever became of them."""
    answered = counts.correct + counts.wrong + counts.no_answer + counts.truncated
    return answered + counts.scored + counts.failed


def baseline_sentence(result: evaluation_pb2.EvaluationResult) -> str:
    """Whether the score is above what rules without a model reach; empty where they were not computed."""
    if not result.baselines:
        return ""
    best = max(result.baselines, key=lambda baseline: baseline.score.mean)
    rule = rule_name(best.name)
    if result.score.low > best.score.mean:
        return f"The whole interval lies above the best rule without a model: {rule}."
    if result.score.mean > best.score.mean:
        return f"The interval reaches down to the best rule without a model: {rule}."
    return f"No better than the best rule without a model: {rule}."


def rule_name(name: str) -> str:
    """A rule without a model in words."""
    return _RULES.get(name, name)


def part_groups(
    parts: Iterable[evaluation_pb2.NamedScore],
) -> list[tuple[str, list[tuple[str, evaluation_pb2.Score]]]]:
    """The parts by what they are parts of: `family=chain_sum` stands as `chain_sum` under `family`."""
    groups: dict[str, list[tuple[str, evaluation_pb2.Score]]] = {}
    for part in parts:
        kind, sign, value = part.name.partition("=")
        groups.setdefault(kind if sign else "part", []).append((value if sign else kind, part.score))
    return list(groups.items())


def chart_lines(result: evaluation_pb2.EvaluationResult) -> list[ChartLine]:
    """pass@k and majority@k over the number of samples, each doubling of k as wide as the next."""
    curves = [("pass@k", result.pass_at_k), ("majority@k", result.majority_at_k)]
    ks = sorted({_samples(point.name) for _, points in curves for point in points})
    if len(ks) < 2:
        return []
    return [
        ChartLine(name, [_chart_point(point, ks) for point in points]) for name, points in curves if points
    ]


def marked_output(item: evaluation_pb2.ItemScore) -> list[Part]:
    """The output in pieces, the false steps apart, as far as MARKED_CHARACTERS."""
    output = item.output
    if item.step_count <= item.true_step_count:
        return [Part(output, "")]
    parts: list[Part] = []
    position = 0
    end = len(output) if len(output) <= MARKED_CHARACTERS else MARKED_CHARACTERS - LONGEST_STEP
    for step in find_steps(output[:MARKED_CHARACTERS]):
        if not step.true and step.end <= end:
            parts += [
                Part(output[position : step.start], ""),
                Part(output[step.start : step.end], "false-step"),
            ]
            position = step.end
    return [part for part in [*parts, Part(output[position:], "")] if part.text]


def judge_words(item: evaluation_pb2.ItemScore) -> str:
    """What the judge said of an output; empty where none has seen it."""
    if not item.HasField("judge_score"):
        return "no verdict of the judge" if item.judge_comment else ""
    return f"judge: right with probability {item.judge_score:.2f}"


def steps_text(item: evaluation_pb2.ItemScore) -> str:
    """How many steps of an output are true; empty for an output without steps."""
    if not item.step_count:
        return ""
    verb = "step is" if item.step_count == 1 else "steps are"
    text = f"{item.true_step_count} of {item.step_count} {verb} true"
    if item.true_step_count < item.step_count and len(item.output) > MARKED_CHARACTERS:
        text += f", false ones are marked in the first {MARKED_CHARACTERS:,} characters"
    return text


def item_kinds(item: evaluation_pb2.ItemScore) -> list[str]:
    """By what an item can be filtered: its outcome, a false step, a right answer with one."""
    kinds = [outcome_word(item.outcome).replace(" ", "-")]
    if item.true_step_count < item.step_count:
        kinds.append("false-step")
        if item.outcome == evaluation_pb2.ItemScore.CORRECT:
            kinds.append("right-despite")
    return kinds


def item_filters(items: Iterable[evaluation_pb2.ItemScore]) -> list[tuple[str, str, int]]:
    """The filters that fit an item of the page: kind, label, number of items."""
    counts = Counter(kind for item in items for kind in item_kinds(item))
    labels = {
        "correct": "Correct", "wrong": "Wrong", "no-answer": "No answer", "truncated": "Truncated",
        "scored": "Scored", "failed": "Failed", "unknown": "Unknown", "false-step": "With a false step",
        "right-despite": "Right on a false step",
    }  # fmt: skip
    return [(kind, label, counts[kind]) for kind, label in labels.items() if counts[kind]]


def method_text(score: evaluation_pb2.Score) -> str:
    """How an interval was computed."""
    method = _METHODS.get(score.method, score.method)
    return f"{score.confidence * 100:g} % interval, {method}, {score.count:,} items"


def _samples(name: str) -> int:
    """k of `pass@4`, `k=4` or `4`."""
    match = re.search(r"([0-9]+)$", name)
    if match is None:
        raise ValueError(f"{name!r} does not end with a number of samples.")
    return int(match.group(1))


def _chart_point(point: evaluation_pb2.NamedScore, ks: Sequence[int]) -> ChartPoint:
    k = _samples(point.name)
    x = CHART_WIDTH * ks.index(k) / (len(ks) - 1)
    mean, low, high = (CHART_HEIGHT * (1 - v) for v in (point.score.mean, point.score.low, point.score.high))
    return ChartPoint(k, point.score.mean, x, mean, low, high)


FILTERS = {
    "calibration_rows": calibration_rows,
    "calibration_verdict": calibration_verdict,
    "calibration_sentences": calibration_sentences,
    "judge_words": judge_words,
    "all_outcomes": all_outcomes,
    "likelihood_tiles": likelihood_tiles,
    "score_rows": score_rows,
    "baseline_sentence": baseline_sentence,
    "method_text": method_text,
    "rule_name": rule_name,
    "part_groups": part_groups,
    "chart_lines": chart_lines,
    "marked_output": marked_output,
    "steps_text": steps_text,
    "item_kinds": item_kinds,
    "item_filters": item_filters,
    "sentences": lambda card: reasoning_sentences(summary_of(card)),
}
