"""What is wrong with rendered rows: counted by reason, with three examples each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

SHOWN = 3
_MESSAGES = {
    "NO_WEIGHTED_TOKEN": "No token counts in the loss. Give the completion or the assistant some text.",
    "STOP_TOKEN_MISSING": "The last token is not the stop token, so the model would never learn to stop. "
    "Use a model whose chat template ends each assistant's turn with a stop token.",
    "PAD_IS_STOP": "The padding token is the token that ends a turn. Name another `pad_token` in "
    "tokenizer_config.json and import the model again.",
    "TOO_LONG": "Prompt and answer are longer than max_length. Raise it, or set `overlong` to DROP or "
    "CUT_PROMPT.",
    "DROPPED": "Prompt and answer are longer than max_length; they are left out, as `overlong` says.",
    "PROMPT_CUT": "Prompt and answer are longer than max_length; the start of the prompt is cut off, as "
    "`overlong` says.",
    "ANSWER_TOO_LONG": "The answer alone does not fit into max_length, and it is never cut. Raise "
    "max_length, or set `overlong` to DROP.",
    "TEMPLATE_REFUSED": "The model's chat template cannot write them.",
    "NO_ROWS": "No trace is left. Raise max_length, or choose another split.",
}
_ACCEPTED = frozenset({"DROPPED", "PROMPT_CUT"})


@dataclass(frozen=True)
class RowProblem:
    """One reason: what it means, how many traces have it, a few of them, and whether it refuses the run."""

    reason: str
    message: str
    count: int
    examples: tuple[str, ...]
    refused: bool


@dataclass
class ProblemCounts:
    """Collects problems while rows are rendered."""

    _found: dict[str, list[str]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _details: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, example: str, detail: str = "") -> None:
        """Counts one trace; the detail of a reason's first trace is shown with its message."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        shown = self._found.setdefault(reason, [])
        if len(shown) < SHOWN:
            shown.append(example)
        self._details.setdefault(reason, detail)

    @property
    def refuses(self) -> bool:
        """Whether a problem refuses the run."""
        return bool(self._counts.keys() - _ACCEPTED)

    def problems(self) -> list[RowProblem]:
        """All problems, those that refuse the run first."""
        made = [
            RowProblem(
                reason=reason,
                message=" ".join(part for part in (_MESSAGES[reason], self._details[reason]) if part),
                count=count,
                examples=tuple(self._found[reason]),
                refused=reason not in _ACCEPTED,
            )
            for reason, count in self._counts.items()
        ]
        return sorted(made, key=lambda problem: (not problem.refused, problem.reason))


def refusal(problems: Sequence[RowProblem]) -> str:
    """Why a run is refused, in one message; empty if it is not."""
    return " ".join(
        f"{problem.reason}: {problem.count} traces, such as {', '.join(problem.examples)}. {problem.message}"
        for problem in problems
        if problem.refused
    )
