"""How probable given texts are: one forward pass over many contexts and continuations laid end to end."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tunix_rt.lm.batch_shapes import power_of_two
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.sampling import log_probabilities

_SMALLEST_PACK = 64
_CHUNK_ROWS = 64  # logits of a whole pack would be (tokens, vocabulary)


@dataclass(frozen=True)
class Continuation:
    """Tokens whose probabilities after the tokens of a context are wanted."""

    context: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class ContinuationScore:
    """The natural logarithms of the tokens' probabilities; `greedy` if each token is the likeliest one."""

    log_probabilities: tuple[float, ...]
    greedy: bool


class TextScorer:
    """Scores continuations with one model; compiled programs depend on the packed length alone."""

    def __init__(self, model: Decoder, *, pack_tokens: int = 512) -> None:
        self._config = model.config
        self._graph, self._state = nnx.split(model)
        self._pack_tokens = pack_tokens

    def check(self, item: Continuation) -> None:
        """Raise ValueError for a continuation that this model can never score."""
        context, tokens = item.context, item.tokens
        if not context or not tokens:
            empty = "The continuation" if context else "The context"
            raise ValueError(f"{empty} has no tokens.")
        if len(context) + len(tokens) > self._config.max_positions:
            raise ValueError(
                f"The context's {len(context)} tokens and the continuation's {len(tokens)} exceed the "
                f"model's context of {self._config.max_positions} tokens; shorten one of them."
            )
        if max(*context, *tokens) >= self._config.vocab_size or min(*context, *tokens) < 0:
            raise ValueError(f"There is a token outside the vocabulary of {self._config.vocab_size}.")

    def packs(self, items: Sequence[Continuation]) -> list[list[int]]:
        """Indices of the items in groups for `score_pack`; those of one context stand together."""
        of_context: dict[tuple[int, ...], list[int]] = {}
        for index, item in enumerate(items):
            of_context.setdefault(item.context, []).append(index)
        parts = [
            part
            for indices in of_context.values()
            for part in _parts(indices, [items[index] for index in indices], room=self._pack_tokens)
        ]
        sizes = [_size([items[index] for index in part]) for part in parts]
        groups = _packs(sizes, room=self._pack_tokens)
        return [[index for part in group for index in parts[part]] for group in groups]

    def score_pack(self, items: Sequence[Continuation]) -> list[ContinuationScore]:
        """The scores of the items of one pack, in order."""
        values, likeliest = _score_rows(self._graph, self._state, lay_out(items))
        numbers, greedy = np.asarray(values).tolist(), np.asarray(likeliest).tolist()
        scores, start = [], 0
        for item in items:
            place = slice(start, start + len(item.tokens))
            scores.append(ContinuationScore(tuple(numbers[place]), all(greedy[place])))
            start = place.stop
        return scores

    def score(self, items: Sequence[Continuation]) -> list[ContinuationScore]:
        """The score of every item, in order. Raises ValueError for one that cannot be scored."""
        for item in items:
            self.check(item)
        scores: dict[int, ContinuationScore] = {}
        for group in self.packs(items):
            scores |= zip(group, self.score_pack([items[index] for index in group]), strict=True)
        return [scores[index] for index in range(len(items))]


class Laid(NamedTuple):
    """A pack: each context once, its continuations behind it without their last tokens.

    tokens, positions, segments and after have shape (1, length): a continuation is a segment that
    also sees its parent, the context. `targets` (length,) are the tokens to score, of which the first
    `number` count, and `rows` the places whose states foretell them.
    """

    tokens: jax.Array
    positions: jax.Array
    segments: jax.Array
    after: jax.Array
    rows: jax.Array
    targets: jax.Array
    number: jax.Array


def lay_out(items: Sequence[Continuation]) -> Laid:
    """Lay the items end to end, padded to a power of two; neighbours of one context share it."""
    tokens: list[int] = []
    positions: list[int] = []
    segments: list[int] = []
    after: list[int] = []
    rows: list[int] = []
    segment = parent = end = 0  # `end`: where the last token of the context stands
    before: tuple[int, ...] = ()

    def put(new: Sequence[int], *, first: int) -> None:
        tokens.extend(new)
        positions.extend(range(first, first + len(new)))
        segments.extend([segment] * len(new))
        after.extend([parent] * len(new))

    for item in items:
        segment += 1
        if item.context != before:
            before, parent = item.context, segment
            put(item.context, first=0)
            end = len(tokens) - 1
            segment += 1
        rows += [end, *range(len(tokens), len(tokens) + len(item.tokens) - 1)]
        put(item.tokens[:-1], first=len(item.context))
    targets = [token for item in items for token in item.tokens]
    length = power_of_two(max(len(tokens), len(rows)), at_least=_SMALLEST_PACK)

    def padded(values: Sequence[int]) -> jax.Array:
        return jnp.asarray(np.array([*values, *[0] * (length - len(values))], np.int32))

    return Laid(
        tokens=padded(tokens)[None],
        positions=padded(positions)[None],
        segments=padded(segments)[None],
        after=padded(after)[None],
        rows=padded(rows),
        targets=padded(targets),
        number=jnp.int32(len(rows)),
    )


@partial(jax.jit, static_argnames=("graph",))
def _score_rows(graph: Any, state: Any, laid: Laid) -> tuple[jax.Array, jax.Array]:
    """Each target's log-probability, and whether it is the likeliest token, both (length,).

    Only as many chunks of rows as hold targets meet the vocabulary.
    """
    model: Decoder = nnx.merge(graph, state)
    hidden = model.hidden(laid.tokens, laid.positions, laid.segments, after=laid.after)

    def chunk(index: jax.Array, made: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        start = index * _CHUNK_ROWS
        rows, targets = (
            jax.lax.dynamic_slice_in_dim(each, start, _CHUNK_ROWS) for each in (laid.rows, laid.targets)
        )
        logits = model.logits(hidden[rows])
        greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32) == targets
        values = log_probabilities(logits, targets)
        return (
            jax.lax.dynamic_update_slice_in_dim(made[0], values, start, axis=0),
            jax.lax.dynamic_update_slice_in_dim(made[1], greedy, start, axis=0),
        )

    length = laid.rows.shape[0]
    empty = (jnp.zeros(length, jnp.float32), jnp.zeros(length, bool))
    chunks = (laid.number + _CHUNK_ROWS - 1) // _CHUNK_ROWS
    made: tuple[jax.Array, jax.Array] = jax.lax.fori_loop(jnp.int32(0), chunks, chunk, empty)
    return made


def _size(items: Sequence[Continuation]) -> int:
    """The length that items of one context need."""
    scored = sum(len(item.tokens) for item in items)
    return max(len(items[0].context) + scored - len(items), scored)


def _parts(indices: Sequence[int], items: Sequence[Continuation], *, room: int) -> list[list[int]]:
    """The indices of items of one context in parts of at most `room` tokens, or of one item."""
    parts: list[list[int]] = []
    held: list[Continuation] = []
    for index, item in zip(indices, items, strict=True):
        if parts and _size([*held, item]) <= room:
            held.append(item)
            parts[-1].append(index)
        else:
            held = [item]
            parts.append([index])
    return parts


def _packs(sizes: Sequence[int], *, room: int) -> list[list[int]]:
    """Indices of texts in groups of at most `room` tokens, longest first into the first that fits.

    A text longer than `room` is a group of its own.
    """
    groups: list[list[int]] = []
    left: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda each: -sizes[each]):
        place = next((i for i, space in enumerate(left) if space >= sizes[index]), len(groups))
        if place == len(groups):
            groups.append([])
            left.append(max(room, sizes[index]))
        groups[place].append(index)
        left[place] -= sizes[index]
    return groups
