"""What a set of traces holds: lengths, duplicates, answer types, families, and what trivial rules score."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from tunix_rt.answers.equivalence import detect_type, equivalent
from tunix_rt.traces.baselines import baseline_predictions
from tunix_rt.traces.contamination import loose_prompt
from tunix_rt.traces.text import completion_text
from tunix_rt.traces.trace import Trace, family_of

VERSION = 1
"""Rises whenever the same traces would give other statistics."""

TRAIN = "train"
FAMILY_LIMIT = 50


@dataclass(frozen=True)
class Quantiles:
    """How values are spread; each but the mean is one that occurs: the smallest that enough do not exceed."""

    least: int
    p50: int
    p90: int
    p99: int
    greatest: int
    mean: float


@dataclass(frozen=True)
class RuleScore:
    """The share of items with an answer that a rule without a model answers rightly."""

    rule: str
    accuracy: float
    items: int


@dataclass(frozen=True)
class SplitStatistics:
    """What a split holds; `split` is empty for the whole set, whose `baselines` are empty as those of TRAIN.

    Lengths are in Unicode characters. Duplicates are the prompts less the different ones, byte for byte and
    by `loose_prompt`. `answer_types` and the FAMILY_LIMIT largest `families` are in falling order.
    """

    split: str
    trace_count: int
    steps: Quantiles | None
    prompt_characters: Quantiles | None
    completion_characters: Quantiles | None
    answer_types: Mapping[str, int]
    families: Mapping[str, int]
    family_count: int
    exact_duplicates: int
    normalised_duplicates: int
    baselines: tuple[RuleScore, ...]


@dataclass(frozen=True)
class Overlap:
    """How many different prompts stand in two splits, byte for byte and by `loose_prompt`."""

    first: str
    second: str
    exact: int
    normalised: int


@dataclass(frozen=True)
class SetStatistics:
    """The whole set, each split, and each pair of splits."""

    total: SplitStatistics
    splits: tuple[SplitStatistics, ...]
    overlaps: tuple[Overlap, ...]


def set_statistics(rows: Iterable[tuple[Trace, str]], splits: Sequence[str]) -> SetStatistics:
    """The statistics of traces with their splits, all of which are in `splits`."""
    by_split: dict[str, list[Trace]] = {split: [] for split in splits}
    for trace, split in rows:
        by_split[split].append(trace)
    prompts = {split: {trace.prompt for trace in traces} for split, traces in by_split.items()}
    loose = {split: {loose_prompt(prompt) for prompt in found} for split, found in prompts.items()}
    counted = [
        _split(split, traces, prompts[split], loose[split], _baselines(split, by_split))
        for split, traces in by_split.items()
    ]
    everything = [trace for traces in by_split.values() for trace in traces]
    return SetStatistics(
        total=_split("", everything, set().union(*prompts.values()), set().union(*loose.values()), ()),
        splits=tuple(counted),
        overlaps=tuple(
            Overlap(a, b, len(prompts[a] & prompts[b]), len(loose[a] & loose[b]))
            for a, b in combinations(splits, 2)
        ),
    )


def quantiles(values: Iterable[int]) -> Quantiles | None:
    """How values are spread; None for no values. The rank of a share p of n values is ceil(p n)."""
    ordered = sorted(values)
    if not ordered:
        return None

    def at(percent: int) -> int:
        return ordered[-(-percent * len(ordered) // 100) - 1]

    mean = math.fsum(ordered) / len(ordered)
    return Quantiles(ordered[0], at(50), at(90), at(99), ordered[-1], mean)


def asked_texts(trace: Trace) -> list[str]:
    """The texts that are not learnt: the prompt; of a conversation all turns but the assistant's."""
    asked = [turn.content for turn in trace.messages if turn.role != "assistant"]
    return asked if trace.messages else [trace.prompt]


def learnt_texts(trace: Trace) -> list[str]:
    """The texts that are learnt: the completion, else steps and answer, else the assistant's turns."""
    if trace.messages:
        return [turn.content for turn in trace.messages if turn.role == "assistant"]
    if trace.completion or trace.final_answer:
        return [completion_text(trace)]
    return [step.content for step in trace.steps]


def characters(texts: Iterable[str]) -> int:
    """The Unicode characters of texts."""
    return sum(map(len, texts))


def _split(
    name: str, traces: Sequence[Trace], prompts: set[str], loose: set[str], baselines: tuple[RuleScore, ...]
) -> SplitStatistics:
    families = _falling(Counter(family_of(trace.meta) for trace in traces))
    return SplitStatistics(
        split=name,
        trace_count=len(traces),
        steps=quantiles(len(trace.steps) for trace in traces),
        prompt_characters=quantiles(characters(asked_texts(trace)) for trace in traces),
        completion_characters=quantiles(characters(learnt_texts(trace)) for trace in traces),
        answer_types=_falling(Counter(_answer_type(trace) for trace in traces)),
        families=dict(list(families.items())[:FAMILY_LIMIT]),
        family_count=len(families.keys() - {""}),
        exact_duplicates=len(traces) - len(prompts),
        normalised_duplicates=len(traces) - len(loose),
        baselines=baselines,
    )


def _baselines(split: str, by_split: Mapping[str, Sequence[Trace]]) -> tuple[RuleScore, ...]:
    """What the rules that learn from TRAIN score on another split, best first."""
    items = [trace for trace in by_split[split] if trace.final_answer.strip()]
    if split == TRAIN or not items:
        return ()
    right: dict[str, int] = defaultdict(int)
    for rule, answers in baseline_predictions(by_split.get(TRAIN, []), items).items():
        for item, answer in zip(items, answers, strict=True):
            right[rule] += equivalent(answer, item.final_answer, item.answer_type, item.aliases)
    scores = [RuleScore(rule, count / len(items), len(items)) for rule, count in right.items()]
    return tuple(sorted(scores, key=lambda score: (-score.accuracy, score.rule)))


def _answer_type(trace: Trace) -> str:
    answer = trace.final_answer.strip()
    return trace.answer_type or detect_type(answer) if answer else ""


def _falling(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
