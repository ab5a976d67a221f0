"""What rules without a model answer: the bar that a model has to clear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tunix_rt.answers.equivalence import detect_type
from tunix_rt.answers.extract import last_number
from tunix_rt.traces.trace import Trace

# Sets, lists and texts have no constant that is worth a guess.
CONSTANTS = {
    "integer": "0",
    "decimal": "0",
    "fraction": "0",
    "percentage": "0%",
    "boolean": "yes",
    "choice": "A",
}


def baseline_predictions(train: Sequence[Trace], items: Sequence[Trace]) -> dict[str, list[str]]:
    """The answers of each rule to the items, in their order; compare them with `equivalent`.

    `majority-answer` gives the most frequent answer of the training traces, `constant` the constant of
    their most frequent answer type, `number-in-question` the last number of the question, or "" where
    it has none. A rule is left out where the training traces give it nothing to go by: the first two
    without an answer, `constant` for a type that has none. Of equally frequent ones the first in
    the alphabet counts.
    """
    predictions: dict[str, list[str]] = {}
    answered = [trace for trace in train if trace.final_answer.strip()]
    if answered:
        answer = _most_frequent(trace.final_answer.strip() for trace in answered)
        predictions["majority-answer"] = [answer] * len(items)
        kind = _most_frequent(trace.answer_type or detect_type(trace.final_answer) for trace in answered)
        if kind in CONSTANTS:
            predictions["constant"] = [CONSTANTS[kind]] * len(items)
    predictions["number-in-question"] = [last_number(item.prompt) or "" for item in items]
    return predictions


def _most_frequent(values: Iterable[str]) -> str:
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))
