"""Evaluation prompts that a model has seen in training."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tunix_rt.traces.trace import Trace, normalise_prompt

EXAMPLE_LIMIT = 10
NEAR_GRAM = 5  # words
NEAR_WORDS = 13  # shorter prompts share their wording with everything of their kind
NEAR_SHARE = 0.8
COMMON_GRAM = 200  # a run of words in more training prompts points at none of them


@dataclass(frozen=True)
class Overlap:
    """An evaluation item and a training trace with the same prompt."""

    eval_id: str
    train_id: str
    prompt: str


@dataclass(frozen=True)
class Contamination:
    """How many evaluation items have their prompt in the training set.

    `exact` counts prompts equal byte for byte, `normalised` those equal in letters and digits only (case,
    spacing and punctuation aside) that are not exact, `near` the other prompts of at least NEAR_WORDS words
    of whose runs of NEAR_GRAM words one training prompt with the same numbers has NEAR_SHARE: the same story
    with other numbers is another problem. `examples` holds at most EXAMPLE_LIMIT overlaps.
    """

    eval_items: int
    exact: int
    normalised: int
    near: int
    examples: tuple[Overlap, ...]

    @property
    def count(self) -> int:
        """How many evaluation prompts were found in the training set, in whichever form."""
        return self.exact + self.normalised + self.near

    @property
    def clean(self) -> bool:
        """Whether no evaluation prompt was found in the training set."""
        return self.count == 0


def find_contamination(train: Iterable[Trace], evaluation: Iterable[Trace]) -> Contamination:
    """Looks each evaluation prompt up among the training prompts."""
    exact: dict[str, str] = {}
    loose: dict[str, str] = {}
    grams: dict[tuple[str, ...], list[str]] = {}  # to the normalised prompts that have it
    for trace in train:
        words = loose_prompt(trace.prompt)
        exact.setdefault(trace.prompt, trace.id)
        if words not in loose:
            loose[words] = trace.id
            for gram in _grams(words):
                sources = grams.setdefault(gram, [])
                if len(sources) <= COMMON_GRAM:
                    sources.append(words)
    items = 0
    counts: Counter[str] = Counter()
    examples: list[Overlap] = []
    for item in evaluation:
        items += 1
        words = loose_prompt(item.prompt)
        for kind, train_id in (
            ("exact", exact.get(item.prompt)),
            ("normalised", loose.get(words)),
            ("near", loose.get(_nearest(words, grams))),
        ):
            if train_id is not None:
                counts[kind] += 1
                examples.append(Overlap(eval_id=item.id, train_id=train_id, prompt=item.prompt))
                break
    return Contamination(
        eval_items=items,
        exact=counts["exact"],
        normalised=counts["normalised"],
        near=counts["near"],
        examples=tuple(examples[:EXAMPLE_LIMIT]),
    )


def loose_prompt(prompt: str) -> str:
    """The prompt's words, numbers and operators, without the punctuation that changes no meaning.

    A prompt of nothing else (emoji, say) stays as it is.
    """
    normal = normalise_prompt(prompt)
    text = re.sub(r"\s*([-+*/=<>^%])\s*", r" \1 ", normal)
    text = re.sub(r"(?<=\d)[.,](?=\d)", "\x00", text)
    return " ".join(re.sub(r"[^\w\s+*/=<>^%()\x00-]", " ", text).split()) or normal


def _grams(words: str) -> set[tuple[str, ...]]:
    """The runs of NEAR_GRAM words of a normalised prompt, none when it is short."""
    parts = words.split()
    if len(parts) < NEAR_WORDS:
        return set()
    return {tuple(parts[i : i + NEAR_GRAM]) for i in range(len(parts) - NEAR_GRAM + 1)}


def _numbers(words: str) -> list[str]:
    return sorted(re.findall(r"\d+", words))


def _nearest(words: str, grams: Mapping[tuple[str, ...], list[str]]) -> str:
    """The training prompt that has most, at least NEAR_SHARE, of the prompt's runs of words, or ""."""
    own = _grams(words)
    candidates: set[str] = set()
    for sources in (grams.get(gram, ()) for gram in own):
        if len(sources) <= COMMON_GRAM:
            candidates.update(source for source in sources if _numbers(source) == _numbers(words))
    shares = [(-len(own & _grams(candidate)), candidate) for candidate in candidates]
    most, nearest = min(shares, default=(0, ""))
    return nearest if -most >= NEAR_SHARE * len(own) else ""
