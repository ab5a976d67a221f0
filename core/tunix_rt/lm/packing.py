"""Requests, and laying their prompts end to end for one prefill."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from tunix_rt.lm.batch_shapes import power_of_two
from tunix_rt.lm.decoding_steps import Packed
from tunix_rt.lm.sampling import Draws, Sampling

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


def packs(sizes: Sequence[int], *, room: int) -> list[list[int]]:
    """Indices of prompts in groups of at most `room` tokens, longest first into the first that fits.

    A prompt longer than `room` is a group of its own.
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


def pack(group: Sequence[Request], slots: Sequence[int], *, most: int) -> Packed:
    """Lay the prompts end to end, one segment each, padded to a power of two; at most `most` of them."""
    sizes = [len(request.prompt) for request in group]
    length = power_of_two(sum(sizes), at_least=_SMALLEST_PACK)
    tokens, positions, segments = (np.zeros((1, length), np.int32) for _ in range(3))
    start = 0
    starts = np.zeros(most, np.int32)
    for index, (request, size) in enumerate(zip(group, sizes, strict=True)):
        place = slice(start, start + size)
        tokens[0, place], positions[0, place], segments[0, place] = request.prompt, np.arange(size), index + 1
        starts[index] = start
        start += size

    def column(values: Sequence[float], dtype: type, empty: float) -> jax.Array:
        return jnp.asarray(np.array([*values, *[empty] * (most - len(group))], dtype))

    draws = Draws(
        temperature=column([request.sampling.temperature for request in group], np.float32, 0),
        top_k=column([request.sampling.top_k for request in group], np.int32, 0),
        top_p=column([request.sampling.top_p for request in group], np.float32, 1),
        seed=column([_word(request.sampling.seed) for request in group], np.int32, 0),
        item=column([_word(request.item) for request in group], np.int32, 0),
        sample=column([_word(request.sample) for request in group], np.int32, 0),
        min_p=column([request.sampling.min_p for request in group], np.float32, 0),
        repetition_penalty=column([request.sampling.repetition_penalty for request in group], np.float32, 1),
    )
    return Packed(
        tokens=jnp.asarray(tokens),
        positions=jnp.asarray(positions),
        segments=jnp.asarray(segments),
        starts=jnp.asarray(starts),
        lengths=column(sizes, np.int32, 1),
        slots=column(slots, np.int32, _NOWHERE),
        left=column([request.max_new_tokens for request in group], np.int32, 0),
        draws=draws,
        number=jnp.int32(len(group)),
    )


def packed_lengths(longest: int) -> list[int]:
    """All lengths that prompts of `longest` tokens in all, or fewer, are padded to."""
    last = power_of_two(longest, at_least=_SMALLEST_PACK)
    return [size for size in (_SMALLEST_PACK << shift for shift in range(32)) if size <= last]


def _word(value: int) -> int:
    """A whole number's low 31 bits."""
    return value & 0x7FFFFFFF
