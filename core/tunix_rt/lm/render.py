"""The one renderer from messages to tokens: training, evaluation and serving all use it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tunix_rt.lm.errors import ModelError
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
    [rendered] = render_pieces(tokenizer, [prompt_pieces(tokenizer, messages, completion)])
    return rendered.tokens, rendered.weights


@dataclass(frozen=True)
class Piece:
    """A part of a rendered text: `learnt` text ends with the stop token, other text is the template's."""

    text: str
    learnt: bool


@dataclass(frozen=True)
class Rendered:
    """Tokens, their weights in the loss, and how many of them come before the last assistant's turn."""

    tokens: list[int]
    weights: list[float]
    prompt_length: int


def prompt_pieces(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], completion: str
) -> list[Piece]:
    """The prompt of a conversation and the completion to learn."""
    prompt = tokenizer.chat_text(messages, add_generation_prompt=True)
    return [Piece(prompt, learnt=False), Piece(completion, learnt=True)]


def conversation_pieces(tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]]) -> list[Piece]:
    """A conversation cut at its assistant's turns, as the chat template writes it.

    Each turn is found between the prompt that asks for it and the conversation that has it. Raises
    ModelError for a template that writes a turn otherwise than it would continue the prompt, or
    changes earlier turns later.
    """
    pieces: list[Piece] = []
    done = ""
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = tokenizer.chat_text(messages[:index], add_generation_prompt=True)
        whole = tokenizer.chat_text(messages[: index + 1], add_generation_prompt=False)
        stop = _stop_text(tokenizer)
        learnt, found, _ = whole[len(prompt) :].rpartition(stop)
        written = learnt.strip() == message["content"].strip()
        if not (prompt.startswith(done) and whole.startswith(prompt) and found and written):
            raise _unstable(index)
        pieces += [Piece(prompt[len(done) :], learnt=False), Piece(learnt, learnt=True)]
        done = prompt + learnt + stop
    return pieces


def render_pieces(tokenizer: Tokenizer, rows: Sequence[Sequence[Piece]]) -> list[Rendered]:
    """The tokens of many rows at once; only learnt pieces and their stop tokens weigh 1."""
    given = iter(tokenizer.encode_templates([each.text for row in rows for each in row if not each.learnt]))
    learnt = iter(tokenizer.encode_many([each.text for row in rows for each in row if each.learnt]))
    return [_render_row(row, given, learnt, tokenizer.turn_stop) for row in rows]


def _render_row(
    row: Sequence[Piece], given: Iterator[list[int]], learnt: Iterator[list[int]], stop: int
) -> Rendered:
    tokens: list[int] = []
    weights: list[float] = []
    prompt_length = 0
    for piece in row:
        ids = [*next(learnt), stop] if piece.learnt else next(given)
        prompt_length = len(tokens) if piece.learnt else prompt_length
        tokens += ids
        weights += [float(piece.learnt)] * len(ids)
    return Rendered(tokens, weights, prompt_length)


def _stop_text(tokenizer: Tokenizer) -> str:
    return tokenizer.spell(tokenizer.turn_stop)


def _unstable(index: int) -> ModelError:
    problem = (
        f"does not write messages[{index}] as the continuation of the prompt before it, so its tokens cannot "
        "be told from the others."
    )
    remedy = "Use a model whose template only ever adds to a conversation, or train on pairs."
    return ModelError("tokenizer_config.json: chat_template", problem, remedy=remedy)
