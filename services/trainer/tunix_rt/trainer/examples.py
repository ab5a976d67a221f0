"""From the dataset's canonical lines to rendered training examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunix_rt.lm.render import render_example
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.traces.jsonl import read_canonical
from tunix_rt.traces.text import completion_text, prompt_messages
from tunix_rt.traces.trace import Trace, TraceError
from tunix_rt.trainer.batches import Example
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.specfile import TrainSpec


@dataclass(frozen=True)
class Splits:
    """The rendered training and validation examples."""

    train: Sequence[Example]
    validation: Sequence[Example]


def read_examples(path: Path, tokenizer: Tokenizer, spec: TrainSpec) -> Splits:
    """Render the spec's splits of a dataset file, each trace once.

    Raises TrainingFailure for traces that cannot be trained on and for an empty split.
    """
    try:
        with path.open("rb") as lines:
            rows = read_canonical(lines)
    except TraceError as error:
        raise TrainingFailure("TRACES_INVALID", str(error)) from error
    train = _render(rows, spec.train_split, tokenizer, spec)
    wanted = spec.validate_every != 0
    return Splits(train, _render(rows, spec.validation_split, tokenizer, spec) if wanted else ())


def _render(
    rows: Sequence[tuple[Trace, str]], split: str, tokenizer: Tokenizer, spec: TrainSpec
) -> list[Example]:
    examples = []
    for trace, own_split in rows:
        if own_split == split:
            messages = prompt_messages(trace.prompt, spec.format, spec.system_prompt)
            tokens, weights = render_example(tokenizer, messages, completion_text(trace, spec.format))
            examples.append(Example(trace.id, np.array(tokens, np.int32), np.array(weights, np.float32)))
    if not examples:
        present = ", ".join(sorted({own for _, own in rows})) or "none"
        message = f"The dataset has no traces in split {split!r}; its splits are {present}."
        raise TrainingFailure("SPLIT_EMPTY", message)
    return examples
