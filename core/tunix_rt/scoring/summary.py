"""What the outputs of an evaluation add up to."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from tunix_rt.answers.reasoning import check_reasoning, reasoning_card
from tunix_rt.jobs.evaluation_spec import GENERATION, MULTIPLE_CHOICE
from tunix_rt.scoring.likelihood_summary import add_choices, add_likelihood
from tunix_rt.scoring.scorer import Scorer
from tunix_rt.scoring.shares import CONFIDENCE, SEED, interval_score, share_score
from tunix_rt.stats.clustered import MIN_CLUSTERS, clustered
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

PART_KEYS = ("section", "category", "family", "difficulty")
MAX_PARTS = 64  # a key with more values names items, not parts


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
    tokens = sum(output.completion_tokens for output in outputs)
    result = EvaluationResult(
        score=share_score([item.score for item in items]),
        outcomes=_outcomes(outputs),
        tokens_per_second=tokens_per_second,
        items_per_second=tokens_per_second * len(items) / tokens if tokens else 0.0,
        contaminated_count=contaminated_count,
        cached_count=sum(output.cached for output in outputs),
        duplicate_count=duplicate_count([item.trace for item in items]),
        parts=_parts(items),
    )
    if by_family := _clustered(items):
        result.clustered_score.CopyFrom(by_family)
    if spec.method in ("", GENERATION):
        _add_outputs(result, items, outputs, spec=spec, train=train, scorer=scorer)
        return result
    add_likelihood(result, outputs, traces, spec=spec)
    if spec.method == MULTIPLE_CHOICE:
        add_choices(result, outputs, traces, train=train)
    return result


def _add_outputs(
    result: EvaluationResult,
    items: Sequence[_Item],
    outputs: Sequence[ItemScore],
    *,
    spec: EvaluationSpec,
    train: Sequence[Trace],
    scorer: Scorer,
) -> None:
    """What only generated outputs have."""
    count = len(outputs)
    result.strict_score.CopyFrom(share_score([item.strict_score for item in items]))
    result.extracted_rate = sum(bool(output.extracted_answer) for output in outputs) / count
    result.stopped_rate = sum(output.finish_reason == "stop" for output in outputs) / count
    result.truncated_rate = sum(output.finish_reason == "length" for output in outputs) / count
    result.timed_out_rate = _mean([any(output.timed_out for output in item.outputs) for item in items])
    result.completion_tokens = sum(output.completion_tokens for output in outputs)
    result.baselines.extend(_baselines([item.trace for item in items], train, scorer))
    if reasoning := _reasoning(outputs, spec.format):
        result.reasoning.CopyFrom(reasoning)
    completed = [score for item in items if (score := item.completed_score) is not None]
    if completed:
        result.completed_score.CopyFrom(share_score(completed))
    if spec.samples > 1:
        result.pass_at_k.extend(_at_k("pass", items, spec.samples, _passed))
        result.majority_at_k.extend(_at_k("majority", items, spec.samples, _majority))


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
        scored=counts[ItemScore.SCORED],
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
    score = interval_score(values, interval, method="clustered")
    score.cluster_count = interval.clusters
    return score


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
    return majority_at_k(answers, right, k, seed=SEED)


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
