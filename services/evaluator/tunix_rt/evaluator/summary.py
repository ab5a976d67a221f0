"""What the outputs of an evaluation add up to."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from tunix_rt.answers.reasoning import check_reasoning, reasoning_card
from tunix_rt.evaluator.scorer import Scorer
from tunix_rt.stats.clustered import MIN_CLUSTERS, ClusteredInterval, clustered
from tunix_rt.stats.intervals import Interval, bca_mean, wilson
from tunix_rt.stats.samples import majority_at_k, pass_at_k
from tunix_rt.traces.baselines import baseline_predictions
from tunix_rt.traces.set_check import duplicate_count
from tunix_rt.traces.trace import Trace, family_of, part_name
from tunix_rt.v1.evaluation_pb2 import (
    EvaluationResult,
    EvaluationSpec,
    ItemScore,
    NamedScore,
    OutcomeCounts,
    ReasoningCard,
    Score,
)

CONFIDENCE = 0.95
PART_KEYS = ("section", "category", "family", "difficulty")
MAX_PARTS = 64  # a key with more values names items, not parts
_SEED = 0  # of the resampling, so that a result is a function of its outputs


@dataclass(frozen=True)
class _Item:
    """An item with its outputs by sample."""

    trace: Trace
    outputs: Sequence[ItemScore]

    @property
    def score(self) -> float:
        return _mean([output.score for output in self.outputs])

    @property
    def strict_score(self) -> float:
        return _mean([output.strict_score for output in self.outputs])

    @property
    def completed_score(self) -> float | None:
        """The mean over the outputs that stopped by themselves, None if none did."""
        scores = [output.score for output in self.outputs if output.finish_reason == "stop"]
        return _mean(scores) if scores else None


def summarise(
    outputs: Sequence[ItemScore],
    traces: Sequence[Trace],
    *,
    spec: EvaluationSpec,
    train: Sequence[Trace],
    tokens_per_second: float,
    contaminated_count: int,
    scorer: Scorer,
) -> EvaluationResult:
    """The result of all outputs of an evaluation. `traces` are its items by position.

    The samples of an item are averaged first. `train` is what rules without a model learn from.
    `tokens_per_second` is the engine's rate over the rounds in which nothing was compiled, 0 if there
    were none: outputs from the cache have no rate. Items a second follow from it and the mean number of
    tokens of an item, because items that begin in a measured round and end in another one have no rate of
    their own.
    """
    items = _grouped(outputs, traces)
    count, tokens = len(outputs), sum(output.completion_tokens for output in outputs)
    result = EvaluationResult(
        score=share_score([item.score for item in items]),
        strict_score=share_score([item.strict_score for item in items]),
        outcomes=_outcomes(outputs),
        extracted_rate=sum(bool(output.extracted_answer) for output in outputs) / count,
        stopped_rate=sum(output.finish_reason == "stop" for output in outputs) / count,
        truncated_rate=sum(output.finish_reason == "length" for output in outputs) / count,
        timed_out_rate=_mean([any(output.timed_out for output in item.outputs) for item in items]),
        completion_tokens=tokens,
        tokens_per_second=tokens_per_second,
        items_per_second=tokens_per_second * len(items) / tokens if tokens else 0.0,
        contaminated_count=contaminated_count,
        cached_count=sum(output.cached for output in outputs),
        duplicate_count=duplicate_count([item.trace for item in items]),
        parts=_parts(items),
        baselines=_baselines([item.trace for item in items], train, scorer),
    )
    if reasoning := _reasoning(outputs, spec.format):
        result.reasoning.CopyFrom(reasoning)
    completed = [score for item in items if (score := item.completed_score) is not None]
    if completed:
        result.completed_score.CopyFrom(share_score(completed))
    if by_family := _clustered(items):
        result.clustered_score.CopyFrom(by_family)
    if spec.samples > 1:
        result.pass_at_k.extend(_at_k("pass", items, spec.samples, _passed))
        result.majority_at_k.extend(_at_k("majority", items, spec.samples, _majority))
    return result


def share_score(values: Sequence[float]) -> Score:
    """The mean of item scores in [0, 1] with its interval.

    Wilson's where every score is 0 or 1, else the BCa bootstrap's.
    """
    if all(value in (0.0, 1.0) for value in values):
        right = round(math.fsum(values))
        return _score(values, wilson(right, len(values), confidence=CONFIDENCE), method="wilson")
    return _score(values, bca_mean(values, seed=_SEED, confidence=CONFIDENCE), method="bca")


def _grouped(outputs: Sequence[ItemScore], traces: Sequence[Trace]) -> list[_Item]:
    of_position: dict[int, list[ItemScore]] = defaultdict(list)
    for output in sorted(outputs, key=lambda each: (each.position, each.sample)):
        of_position[output.position].append(output)
    return [_Item(traces[position], group) for position, group in of_position.items()]


def _outcomes(outputs: Sequence[ItemScore]) -> OutcomeCounts:
    counts = Counter(output.outcome for output in outputs)
    return OutcomeCounts(
        correct=counts[ItemScore.CORRECT],
        wrong=counts[ItemScore.WRONG],
        no_answer=counts[ItemScore.NO_ANSWER],
        truncated=counts[ItemScore.TRUNCATED],
        failed=counts[ItemScore.FAILED],
    )


def _parts(items: Sequence[_Item]) -> Iterator[NamedScore]:
    """The score of each part that the items' metadata names, in the order of PART_KEYS, then of names."""
    for key in PART_KEYS:
        values: dict[str, list[float]] = defaultdict(list)
        for item in items:
            if name := part_name(item.trace.meta, key):
                values[name].append(item.score)
        if len(values) <= MAX_PARTS:
            for name in sorted(values):
                yield NamedScore(name=f"{key}={name}", score=share_score(values[name]))


def _clustered(items: Sequence[_Item]) -> Score | None:
    """The score with errors clustered by family; None unless every item has one and there are enough."""
    families = [family_of(item.trace.meta) for item in items]
    if not all(families) or len(set(families)) < MIN_CLUSTERS:
        return None
    values = [item.score for item in items]
    interval = clustered(values, families, CONFIDENCE)
    score = _score(values, interval, method="clustered")
    score.cluster_count = interval.clusters
    return score


def _score(values: Sequence[float], interval: Interval | ClusteredInterval, *, method: str) -> Score:
    """The mean of item scores with an interval, which is cut to [0, 1] and holds the mean."""
    mean = _mean(values)
    return Score(
        mean=mean,
        low=max(0.0, min(interval.low, mean)),
        high=min(1.0, max(interval.high, mean)),
        confidence=CONFIDENCE,
        count=len(values),
        method=method,
    )


def _baselines(traces: Sequence[Trace], train: Sequence[Trace], scorer: Scorer) -> Iterator[NamedScore]:
    for name, answers in baseline_predictions(train, traces).items():
        right = [float(_right(answer, trace, scorer)) for answer, trace in zip(answers, traces, strict=True)]
        yield NamedScore(name=name, score=share_score(right))


def _right(answer: str, trace: Trace, scorer: Scorer) -> bool:
    return bool(trace.final_answer) and scorer.equivalent(
        answer, trace.final_answer, trace.answer_type, trace.aliases
    )


def _at_k(
    name: str, items: Sequence[_Item], samples: int, value: Callable[[_Item, int], float]
) -> Iterator[NamedScore]:
    k = 1
    while k <= samples:
        yield NamedScore(name=f"{name}@{k}", score=share_score([value(item, k) for item in items]))
        k *= 2


def _passed(item: _Item, k: int) -> float:
    correct = sum(output.outcome == ItemScore.CORRECT for output in item.outputs)
    return pass_at_k(correct, len(item.outputs), k)


def _majority(item: _Item, k: int) -> float:
    """All right answers are one answer, however they are written; other ones are equal as text."""
    right = [output.outcome == ItemScore.CORRECT for output in item.outputs]
    answers = [
        output.expected_answer if is_right else output.extracted_answer.casefold().strip()
        for output, is_right in zip(item.outputs, right, strict=True)
    ]
    return majority_at_k(answers, right, k, seed=_SEED)


def _reasoning(outputs: Sequence[ItemScore], format: str) -> ReasoningCard | None:  # noqa: A002
    """How the outputs reason; None where none was generated."""
    made = [output for output in outputs if output.outcome != ItemScore.FAILED]
    if not made:
        return None
    summary = reasoning_card(
        [check_reasoning(output.output, output.extracted_answer or None, format) for output in made],
        [output.completion_tokens for output in made],
        [output.outcome == ItemScore.CORRECT for output in made],
    )
    return ReasoningCard(**asdict(summary))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
