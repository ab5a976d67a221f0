"""What rendered rows depend on, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

RENDERER = "rows@1"  # raise it when the same recipe would give other rows
REFUSE, DROP, CUT_PROMPT = "REFUSE", "DROP", "CUT_PROMPT"
OVERLONG = (REFUSE, DROP, CUT_PROMPT)


@dataclass(frozen=True)
class Source:
    """A split of a sealed dataset; `sha256` is the dataset's."""

    dataset: str
    sha256: str
    split: str


@dataclass(frozen=True)
class Recipe:
    """The traces and how they become rows.

    `train` begins with the run's own split, then come the parts of its mixture; `validation` is None for a
    run that does not validate. `tokenizer` is a digest of the tokenizer's files.
    """

    train: tuple[Source, ...]
    validation: Source | None
    tokenizer: str
    format: str
    system_prompt: str
    max_length: int
    overlong: str

    @property
    def key(self) -> str:
        """A SHA-256 that is equal for recipes that give the same bytes."""
        return hashlib.sha256(json.dumps([RENDERER, asdict(self)]).encode()).hexdigest()
