"""From traces to the rows of a run; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tunix_rt.lm.errors import ModelError
from tunix_rt.lm.render import Piece, conversation_pieces, prompt_pieces, render_pieces
from tunix_rt.lm.tokenizer import Tokenizer
from tunix_rt.traces.text import completion_text, prompt_messages
from tunix_rt.traces.trace import Trace
from tunix_rt.trainer.batches import Example
from tunix_rt.trainer.rows.problems import ProblemCounts, RowProblem
from tunix_rt.trainer.rows.recipe import CUT_PROMPT, DROP, Recipe

_AT_ONCE = 2000


@dataclass(frozen=True)
class Rows:
    """The rendered examples, and what is wrong with them and with those that are not among them.

    `sources` has dataset and split of each part.
    """

    train: Sequence[Example]
    validation: Sequence[Example]
    problems: Sequence[RowProblem]
    sources: Sequence[tuple[str, str]]


def render_rows(
    recipe: Recipe, tokenizer: Tokenizer, train: Sequence[Iterable[Trace]], validation: Iterable[Trace]
) -> Rows:
    """Renders the traces of each part of a recipe, and those for validation; each trace once."""
    counts = ProblemCounts()
    if tokenizer.pad_id == tokenizer.turn_stop:
        counts.add("PAD_IS_STOP", f"token {tokenizer.pad_id} ({tokenizer.spell(tokenizer.pad_id)})")
    rendered: list[Example] = []
    for part, traces in enumerate(train):
        rendered += _render(recipe, tokenizer, traces, counts, part=part)
    held_out = _render(recipe, tokenizer, validation, counts, part=0)
    for source, left in ((recipe.train[0], rendered), (recipe.validation, held_out)):
        if source and not left and not counts.refuses:
            counts.add("NO_ROWS", f"those of {source.dataset}, split {source.split}")
    sources = [(source.dataset, source.split) for source in recipe.train]
    return Rows(rendered, held_out, counts.problems(), sources)


def _render(
    recipe: Recipe, tokenizer: Tokenizer, traces: Iterable[Trace], counts: ProblemCounts, *, part: int
) -> list[Example]:
    made: list[Example] = []
    waiting: list[tuple[str, list[Piece]]] = []
    for trace in traces:
        pieces = _pieces(recipe, tokenizer, trace, counts)
        if pieces:
            waiting.append((trace.id, pieces))
        if len(waiting) == _AT_ONCE:
            made += _examples(recipe, tokenizer, waiting, counts, part=part)
            waiting.clear()
    return made + _examples(recipe, tokenizer, waiting, counts, part=part)


def _pieces(recipe: Recipe, tokenizer: Tokenizer, trace: Trace, counts: ProblemCounts) -> list[Piece]:
    """The parts of a trace's text; none if the template refuses them."""
    try:
        if trace.messages:
            return conversation_pieces(tokenizer, _messages(trace, recipe.system_prompt))
        messages = prompt_messages(trace.prompt, recipe.format, recipe.system_prompt)
        return prompt_pieces(tokenizer, messages, completion_text(trace, recipe.format))
    except ModelError as error:
        counts.add("TEMPLATE_REFUSED", trace.id, str(error))
        return []


def _messages(trace: Trace, system_prompt: str) -> list[dict[str, str]]:
    """A conversation as it stands, after the run's system prompt if it has none of its own."""
    turns = [{"role": turn.role, "content": turn.content} for turn in trace.messages]
    if system_prompt.strip() and turns[0]["role"] != "system":
        return [{"role": "system", "content": system_prompt.strip()}, *turns]
    return turns


def _examples(
    recipe: Recipe,
    tokenizer: Tokenizer,
    waiting: Sequence[tuple[str, list[Piece]]],
    counts: ProblemCounts,
    *,
    part: int,
) -> list[Example]:
    made = []
    for (trace, _), row in zip(
        waiting, render_pieces(tokenizer, [pieces for _, pieces in waiting]), strict=True
    ):
        tokens, weights = np.array(row.tokens, np.int32), np.array(row.weights, np.float32)
        example = Example(trace, tokens, weights, part, row.prompt_length)
        fitted = _fitted(example, recipe, counts)
        if fitted is not None and _learns(fitted, tokenizer.eos_ids, counts):
            made.append(fitted)
    return made


def _fitted(example: Example, recipe: Recipe, counts: ProblemCounts) -> Example | None:
    """The example within `max_length`, as the policy has it, or None when it does not fit."""
    over = len(example.tokens) - recipe.max_length
    if over <= 0:
        return example
    shown = f"{example.trace} ({len(example.tokens)} tokens)"
    if recipe.overlong == DROP:
        counts.add("DROPPED", shown)
    elif recipe.overlong != CUT_PROMPT:
        counts.add("TOO_LONG", shown)
    elif over >= int(np.argmax(example.weights > 0)):  # the first weighted token needs one before it
        counts.add("ANSWER_TOO_LONG", shown)
    else:
        counts.add("PROMPT_CUT", f"{example.trace} ({over} of {len(example.tokens)} tokens)")
        kept = example.tokens[over:], example.weights[over:]
        return Example(example.trace, *kept, example.part, example.prompt_length - over, over)
    return None


def _learns(example: Example, stops: Sequence[int], counts: ProblemCounts) -> bool:
    """Whether the example has something to learn and ends with a stop token."""
    if not np.any(example.weights[1:] > 0):
        counts.add("NO_WEIGHTED_TOKEN", example.trace)
    elif example.weights[-1] == 0 or int(example.tokens[-1]) not in stops:
        counts.add("STOP_TOKEN_MISSING", example.trace)
    else:
        return True
    return False
