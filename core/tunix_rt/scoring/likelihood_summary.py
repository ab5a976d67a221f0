"""What the log-likelihoods of an evaluation add up to; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunix_rt.jobs.evaluation_spec import MULTIPLE_CHOICE
from tunix_rt.scoring.shares import CONFIDENCE, SEED, share_score
from tunix_rt.stats.likelihood import bits_per_byte, perplexity
from tunix_rt.traces.choices import NORMALIZATIONS, expected_choice, item_choices, likeliest_choice
from tunix_rt.traces.text import completion_text
from tunix_rt.traces.trace import Trace
from tunix_rt.v1.evaluation_pb2 import EvaluationResult, EvaluationSpec, ItemScore, Likelihood, NamedScore


def add_likelihood(
    result: EvaluationResult, items: Sequence[ItemScore], traces: Sequence[Trace], *, spec: EvaluationSpec
) -> None:
    """Adds how probable the reference texts of the items are, those of failed items left out."""
    known = [item for item in items if item.outcome != ItemScore.FAILED]
    if not known:
        return
    values, tokens = [item.log_likelihood for item in known], [item.completion_tokens for item in known]
    size = sum(len(_reference(item, traces[item.position], spec).encode()) for item in known)
    found = perplexity(values, tokens, seed=SEED, confidence=CONFIDENCE)
    result.likelihood.CopyFrom(
        Likelihood(
            token_count=sum(tokens),
            byte_count=size,
            log_likelihood=sum(values),
            perplexity=found.value,
            perplexity_low=found.low,
            perplexity_high=found.high,
            bits_per_byte=bits_per_byte(sum(values), size),
        )
    )


def add_choices(
    result: EvaluationResult, items: Sequence[ItemScore], traces: Sequence[Trace], *, train: Sequence[Trace]
) -> None:
    """Adds the share of right choices under each normalization, and what rules without a model reach."""
    for name in NORMALIZATIONS:
        right = [float(_right(item, name)) for item in items]
        result.normalizations.add(name=name, score=share_score(right))
    counts = [len(item.choices) for item in items]
    uniform = [1 / count if count else 0.0 for count in counts]
    result.baselines.append(NamedScore(name="uniform-choice", score=share_score(uniform)))
    places = Counter(place for trace in train if (place := _place(trace)) is not None)
    if places:
        usual = min(places, key=lambda place: (-places[place], place))
        hits = [float(_place(traces[item.position]) == usual) for item in items]
        result.baselines.append(NamedScore(name="majority-choice", score=share_score(hits)))


def _right(item: ItemScore, normalization: str) -> bool:
    if not item.choices:
        return False
    texts = [choice.text for choice in item.choices]
    chosen = likeliest_choice([choice.log_likelihood for choice in item.choices], texts, normalization)
    return chosen == expected_choice(texts, item.expected_answer)


def _reference(item: ItemScore, trace: Trace, spec: EvaluationSpec) -> str:
    if spec.method != MULTIPLE_CHOICE:
        return completion_text(trace, spec.format)
    texts = [choice.text for choice in item.choices]
    return texts[expected_choice(texts, item.expected_answer)]


def _place(trace: Trace) -> int | None:
    """The place of the right choice; None for an item without usable choices."""
    try:
        return item_choices(trace).expected
    except ValueError:
        return None
