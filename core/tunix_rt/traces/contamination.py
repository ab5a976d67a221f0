"""Evaluation prompts that a model has seen in training."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tunix_rt.traces.trace import Trace, normalise_prompt

EXAMPLE_LIMIT = 10


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
    spacing and punctuation aside) that are not exact. `examples` holds at most EXAMPLE_LIMIT overlaps.
    """

    eval_items: int
    exact: int
    normalised: int
    examples: tuple[Overlap, ...]

    @property
    def clean(self) -> bool:
        """Whether no evaluation prompt was found in the training set."""
        return self.exact == 0 and self.normalised == 0


def find_contamination(train: Iterable[Trace], evaluation: Iterable[Trace]) -> Contamination:
    """Looks each evaluation prompt up among the training prompts."""
    exact_prompts: dict[str, str] = {}
    loose_prompts: dict[str, str] = {}
    for trace in train:
        exact_prompts.setdefault(trace.prompt, trace.id)
        loose_prompts.setdefault(loose_prompt(trace.prompt), trace.id)
    items = exact = normalised = 0
    examples: list[Overlap] = []
    for item in evaluation:
        items += 1
        train_id = exact_prompts.get(item.prompt)
        if train_id is not None:
            exact += 1
        else:
            train_id = loose_prompts.get(loose_prompt(item.prompt))
            if train_id is None:
                continue
            normalised += 1
        if len(examples) < EXAMPLE_LIMIT:
            examples.append(Overlap(eval_id=item.id, train_id=train_id, prompt=item.prompt))
    return Contamination(eval_items=items, exact=exact, normalised=normalised, examples=tuple(examples))


def loose_prompt(prompt: str) -> str:
    """The prompt's words, numbers and operators, without the punctuation that changes no meaning."""
    text = re.sub(r"\s*([-+*/=<>^%])\s*", r" \1 ", normalise_prompt(prompt))
    text = re.sub(r"(?<=\d)[.,](?=\d)", "\x00", text)
    return " ".join(re.sub(r"[^\w\s+*/=<>^%()\x00-]", " ", text).split())
