"""The choices of a multiple-choice item, and which of them a model takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tunix_rt.traces.text import checked_format
from tunix_rt.traces.trace import Trace

NORMALIZATIONS = ("none", "bytes", "characters")
CHOICES = "choices"  # where the metadata of an item has them
MIN_CHOICES, MAX_CHOICES = 2, 26
_LETTER = re.compile(r"\(?([A-Za-z])[).:]?")
_PREFIXES = {"answer-line": "Answer: ", "tags": "<reasoning></reasoning>\n<answer>", "boxed": "\\boxed{"}


@dataclass(frozen=True)
class Choices:
    """The texts of an item's choices, in their order, and the index of the right one."""

    texts: tuple[str, ...]
    expected: int


def item_choices(trace: Trace) -> Choices:
    """The choices in the metadata of an item. Raises ValueError for one without usable choices."""
    given = trace.meta.get(CHOICES)
    if not isinstance(given, list | tuple):
        raise ValueError("there are no choices: `meta.choices` is no list of texts")
    if not all(isinstance(text, str) and text.strip() for text in given):
        raise ValueError("`meta.choices` has an entry that is no text or empty")
    texts = tuple(str(text) for text in given)
    if not MIN_CHOICES <= len(texts) <= MAX_CHOICES:
        raise ValueError(f"there are {len(texts)} choices; {MIN_CHOICES} to {MAX_CHOICES} are allowed")
    if len({text.strip() for text in texts}) < len(texts):
        raise ValueError("two choices are the same")
    return Choices(texts, expected_choice(texts, trace.final_answer))


def expected_choice(texts: Sequence[str], answer: str) -> int:
    """The index of the choice that an answer names: by its text, else by its letter, A for the first.

    Raises ValueError if it names none.
    """
    wanted = answer.strip()
    stripped = [text.strip() for text in texts]
    if wanted in stripped:
        return stripped.index(wanted)
    letter = _LETTER.fullmatch(wanted)
    index = ord(letter.group(1).upper()) - ord("A") if letter else len(texts)
    if index >= len(texts):
        raise ValueError(f"the answer `{answer[:80]}` is neither a choice nor the letter of one")
    return index


def likeliest_choice(log_likelihoods: Sequence[float], texts: Sequence[str], normalization: str) -> int:
    """The index of the choice with the highest log-likelihood, the first of equal ones.

    With `bytes` (of its UTF-8) or `characters`, each is divided by the length of its text first.
    """
    values = [
        value / choice_length(text, normalization) for value, text in zip(log_likelihoods, texts, strict=True)
    ]
    return max(range(len(values)), key=values.__getitem__)


def choice_length(text: str, normalization: str) -> int:
    """By what the log-likelihood of a choice is divided."""
    if normalization == "bytes":
        return len(text.encode())
    return len(text) if normalization == "characters" else 1


def answer_prefix(format: str) -> str:  # noqa: A002
    """What stands before the answer in a completion without steps."""
    return _PREFIXES[checked_format(format)]
