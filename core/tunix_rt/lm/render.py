"""The one renderer from messages to tokens: training, evaluation and serving all use it."""

from collections.abc import Mapping, Sequence

from tunix_rt.lm.tokenizer import Tokenizer


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Tokens of a conversation, up to where the assistant's answer starts."""
    return tokenizer.chat(messages, add_generation_prompt=True)


def render_example(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], completion: str
) -> tuple[list[int], list[float]]:
    """Tokens of a conversation with its answer, and each token's weight in the loss.

    The prompt is exactly `render_prompt`'s and weighs 0; the completion and the stop token that
    ends it weigh 1. What looks like a special token in the completion stays plain text.
    """
    prompt = render_prompt(tokenizer, messages)
    answer = [*tokenizer.encode(completion), tokenizer.eos_ids[0]]
    return prompt + answer, [0.0] * len(prompt) + [1.0] * len(answer)
