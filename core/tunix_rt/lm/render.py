"""The one renderer from messages to tokens: training, evaluation and serving all use it."""

from collections.abc import Mapping, Sequence

from tunix_rt.lm.tokenizer import Tokenizer


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Tokens of a conversation, up to where the assistant's answer starts."""
    return tokenizer.chat(messages, add_generation_prompt=True)


def split_answer(tokenizer: Tokenizer, prefix: str, continuation: str) -> tuple[list[int], list[int]]:
    """Tokens of an answer whose beginning is given, parted before the first token of the continuation.

    The answer is tokenised whole, as in training. It is parted where its tokens begin to differ from
    those of the prefix without its trailing spaces: as in lm-evaluation-harness (`_encode_pair`), these
    and a token that spans the border belong to the continuation.
    """
    if not continuation:
        return tokenizer.encode(prefix), []
    whole = tokenizer.encode(prefix + continuation)
    given = tokenizer.encode(prefix.rstrip())
    pairs = zip(given, whole, strict=False)
    border = next((place for place, (one, other) in enumerate(pairs) if one != other), len(given))
    return whole[:border], whole[border:]


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
