"""Datasets made from others: the traces that meet conditions, a part of them, or several put together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from tunix_rt.traces.contamination import loose_prompt
from tunix_rt.traces.set_statistics import characters, learnt_texts
from tunix_rt.traces.trace import Trace, content_key, family_of, part_name

Rows = Sequence[tuple[Trace, str]]
"""Traces with their splits."""

FIELDS = ("answer_type", "family", "final_answer")


@dataclass(frozen=True)
class Conditions:
    """What a trace has to meet; what is empty or None holds for every trace.

    `where` gives one of FIELDS or `meta.KEY` the text that it must have. `without` are prompts, as
    `loose_prompt` writes them, that are left out. `max_characters` bounds prompt and learnt text together.
    """

    splits: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    min_steps: int | None = None
    max_steps: int | None = None
    max_characters: int | None = None
    without: AbstractSet[str] = frozenset()

    def hold(self, trace: Trace, split: str) -> bool:
        """Whether a trace in a split meets all of them."""
        steps = len(trace.steps)
        return (
            (not self.splits or split in self.splits)
            and all(_value(trace, key) == value for key, value in self.where.items())
            and (self.min_steps is None or steps >= self.min_steps)
            and (self.max_steps is None or steps <= self.max_steps)
            and (
                self.max_characters is None
                or len(trace.prompt) + characters(learnt_texts(trace)) <= self.max_characters
            )
            and not (self.without and loose_prompt(trace.prompt) in self.without)
        )


@dataclass(frozen=True)
class Merged:
    """Traces of several datasets: how often a content came again, and how many ids were made different."""

    rows: list[tuple[Trace, str]]
    duplicates: int
    renamed: int


def subset(rows: Rows, size: int, seed: int) -> list[tuple[Trace, str]]:
    """So many of the rows, in their order.

    Chosen are those whose SHA-256 of seed and content is least: traces that join or leave change
    nothing else in the choice.
    """
    ranked = sorted(range(len(rows)), key=lambda index: _rank(rows[index][0], seed))
    return [rows[index] for index in sorted(ranked[:size])]


def merge(parts: Sequence[Rows]) -> Merged:
    """All rows one after the other, each content once; of an id that is taken the later one gets a suffix."""
    made: list[tuple[Trace, str]] = []
    contents: set[bytes] = set()
    ids = {trace.id for rows in parts for trace, _ in rows}
    used: set[str] = set()
    duplicates = renamed = 0
    for trace, split in (row for rows in parts for row in rows):
        if (content := content_key(trace)) in contents:
            duplicates += 1
            continue
        contents.add(content)
        if trace.id in used:
            trace = replace(trace, id=_free(trace.id, ids))
            ids.add(trace.id)
            renamed += 1
        used.add(trace.id)
        made.append((trace, split))
    return Merged(made, duplicates, renamed)


def mixture_sizes(shares: Sequence[float], size: int) -> list[int]:
    """How many traces each part gives: its share of the size, the largest remainders rounded up."""
    total = sum(shares)
    exact = [size * share / total for share in shares]
    sizes = [int(each) for each in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (sizes[i] - exact[i], i))
    for index in by_remainder[: size - sum(sizes)]:
        sizes[index] += 1
    return sizes


def _value(trace: Trace, key: str) -> str:
    if key.startswith("meta."):
        return part_name(trace.meta, key.removeprefix("meta."))
    return family_of(trace.meta) if key == "family" else str(getattr(trace, key))


def _rank(trace: Trace, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:".encode() + content_key(trace)).digest()


def _free(identifier: str, taken: AbstractSet[str]) -> str:
    number = 2
    while f"{identifier}-{number}" in taken:
        number += 1
    return f"{identifier}-{number}"
