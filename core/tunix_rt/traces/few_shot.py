"""Examples that are shown before a question: drawn anew for each item, never the item itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tunix_rt.traces.contamination import loose_prompt
from tunix_rt.traces.draws import Draws
from tunix_rt.traces.text import completion_text, prompt_messages, user_message
from tunix_rt.traces.trace import Trace


class ExamplePool:
    """The traces that examples are drawn from; those without a completion or an answer are no examples."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        usable = [trace for trace in traces if trace.completion or trace.final_answer]
        self._entries = [(trace, loose_prompt(trace.prompt)) for trace in usable]

    def draw(self, item: Trace, count: int, *, seed: int) -> tuple[Trace, ...]:
        """`count` different examples for an item, a pure function of the pool, the item's id and the seed.

        The draws are made from SHA-256 of seed and id, so neither other items nor their order matter. A
        trace with the item's id, or whose prompt has the words and numbers of the item's or of an example
        drawn before, is passed over. Raises ValueError if too few are left.
        """
        digest = hashlib.sha256(f"{seed}:{item.id}".encode()).digest()
        draws = Draws(int.from_bytes(digest[:8], "big"))
        taken = {loose_prompt(item.prompt)}
        moved: dict[int, int] = {}  # a shuffle that touches only the places it needs
        examples: list[Trace] = []
        last = len(self._entries) - 1
        for place in range(len(self._entries)):
            if len(examples) == count:
                break
            other = draws.between(place, last)
            chosen = moved.get(other, other)
            moved[other] = moved.get(place, place)
            trace, words = self._entries[chosen]
            if trace.id != item.id and words not in taken:
                taken.add(words)
                examples.append(trace)
        if len(examples) < count:
            raise ValueError(
                f"only {len(examples)} examples can be shown before item {item.id}, not {count}."
            )
        return tuple(examples)


def few_shot_messages(
    prompt: str,
    examples: Sequence[Trace],
    format: str,  # noqa: A002
    system: str = "",
    template: str = "",
) -> list[dict[str, str]]:
    """The chat messages of a prompt with examples as turns of user and assistant before it.

    The template holds for the questions of the examples too.
    """
    instruction, question = prompt_messages(prompt, format, system, template)
    turns = []
    for example in examples:
        turns.append({"role": "user", "content": user_message(example.prompt, template)})
        turns.append({"role": "assistant", "content": completion_text(example, format)})
    return [instruction, *turns, question]
