"""Requests, and laying their prompts end to end for one prefill."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tunix_rt.lm.batch_shapes import power_of_two
from tunix_rt.lm.decoding_steps import Packed
from tunix_rt.lm.sampling import Draws, Sampling
from tunix_rt.lm.sharing import Layout

_SMALLEST_PACK = 64
_NOWHERE = 1 << 30  # a row that no batch has


@dataclass(frozen=True)
class Request:
    """A prompt to continue; (sampling.seed, item, sample) fix its random draws.

    With `log_probabilities`, its tokens come with them.
    """

    prompt: Sequence[int]
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    item: int = 0
    sample: int = 0
    log_probabilities: bool = False


class _Laid(NamedTuple):
    """The arrays (1, length) of a layout, and for each segment its start and its first token's position."""

    tokens: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    after: np.ndarray
    starts: list[int]
    firsts: list[int]


def pack(layout: Layout, requests: Sequence[Request], slots: Sequence[int], *, most: int) -> Packed:
    """Lay the segments end to end, padded to a power of two, for at most `most` prompts.

    `requests` and `slots` are those of the layout's prompts, in its order.
    """
    laid = _lay(layout)
    own = [segment for _, segment in layout.prompts]
    shared = [index if (after := layout.segments[index].after) is None else after for index in own]

    def column(values: Sequence[float], dtype: type, empty: float) -> jax.Array:
        return jnp.asarray(np.array([*values, *[empty] * (most - len(requests))], dtype))

    return Packed(
        tokens=jnp.asarray(laid.tokens),
        positions=jnp.asarray(laid.positions),
        segments=jnp.asarray(laid.segments),
        after=jnp.asarray(laid.after),
        starts=column([laid.starts[index] for index in own], np.int32, 0),
        lengths=column([len(request.prompt) for request in requests], np.int32, 1),
        shared_starts=column([laid.starts[index] for index in shared], np.int32, 0),
        shared_lengths=column([laid.firsts[index] for index in own], np.int32, 0),
        own=column([index + 1 for index in own], np.int32, 0),
        shared=column([index + 1 for index in shared], np.int32, 0),
        slots=column(slots, np.int32, _NOWHERE),
        left=column([request.max_new_tokens for request in requests], np.int32, 0),
        draws=_draws(requests, column),
        number=jnp.int32(len(requests)),
    )


def _lay(layout: Layout) -> _Laid:
    length = power_of_two(layout.size, at_least=_SMALLEST_PACK)
    tokens, positions, segments = (np.zeros((1, length), np.int32) for _ in range(3))
    laid = _Laid(tokens, positions, segments, np.full((1, length), -1, np.int32), [], [])
    start = 0
    for number, segment in enumerate(layout.segments, 1):
        size, first = len(segment.tokens), 0
        place = slice(start, start + size)
        if segment.after is not None:
            first = len(layout.segments[segment.after].tokens)
            laid.after[0, place] = segment.after + 1
        tokens[0, place], segments[0, place] = segment.tokens, number
        positions[0, place] = np.arange(first, first + size)
        laid.starts.append(start)
        laid.firsts.append(first)
        start += size
    return laid


def _draws(requests: Sequence[Request], column: Callable[[Sequence[float], type, float], jax.Array]) -> Draws:
    chosen = [request.sampling for request in requests]
    return Draws(
        temperature=column([each.temperature for each in chosen], np.float32, 0),
        top_k=column([each.top_k for each in chosen], np.int32, 0),
        top_p=column([each.top_p for each in chosen], np.float32, 1),
        seed=column([_word(each.seed) for each in chosen], np.int32, 0),
        item=column([_word(request.item) for request in requests], np.int32, 0),
        sample=column([_word(request.sample) for request in requests], np.int32, 0),
        min_p=column([each.min_p for each in chosen], np.float32, 0),
        repetition_penalty=column([each.repetition_penalty for each in chosen], np.float32, 1),
    )


def packed_lengths(longest: int) -> list[int]:
    """All lengths that prompts of `longest` tokens in all, or fewer, are padded to."""
    last = power_of_two(longest, at_least=_SMALLEST_PACK)
    return [size for size in (_SMALLEST_PACK << shift for shift in range(32)) if size <= last]


def _word(value: int) -> int:
    """A whole number's low 31 bits."""
    return value & 0x7FFFFFFF
