"""Choosing the next token: greedy, or drawn from a tempered and restricted distribution."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

_OUT = jnp.float32(-jnp.inf)


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 do not restrict.

    A draw depends on (seed, item, sample) and the place in the output only, so the other rows of a
    batch do not change it. The order is: repetition_penalty (1 is off), temperature, top_k, top_p, min_p.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 or more.")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; it must be 0 (no limit) or more.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be above 0 and at most 1.")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {self.min_p}; it must be in [0, 1].")
        if not 1 <= self.repetition_penalty < float("inf"):
            raise ValueError(
                f"repetition_penalty is {self.repetition_penalty}; it must be finite and 1 (off) or more."
            )


class Draws(NamedTuple):
    """The sampling settings of a batch's rows, each of shape (rows,)."""

    temperature: jax.Array
    top_k: jax.Array
    top_p: jax.Array
    seed: jax.Array
    item: jax.Array
    sample: jax.Array
    min_p: jax.Array
    repetition_penalty: jax.Array


def penalise(logits: jax.Array, seen: jax.Array, penalty: jax.Array) -> jax.Array:
    """Logits (rows, vocabulary) with the positive ones of `seen` tokens divided by the row's penalty.

    The negative ones are multiplied by it. seen (rows, vocabulary) bool; penalty (rows,), 1 changes
    nothing. Keskar et al. 2019, section 4.1, in the form that is common for negative logits.
    """

    def apply() -> jax.Array:
        factor = jnp.where(seen, penalty[:, None], jnp.float32(1))
        return jnp.where(logits > 0, logits / factor, logits * factor)

    penalised: jax.Array = jax.lax.cond(jnp.any(penalty != 1), apply, lambda: logits)
    return penalised


def choose_tokens(
    logits: jax.Array, greedy: jax.Array, seen: jax.Array, draws: Draws, places: jax.Array
) -> jax.Array:
    """The next token of each row by all of its settings, int32; the others as `penalise` and `pick_tokens`.

    `greedy` (rows,) is the likeliest token of each row, which is all that greedy rows need.
    """

    def by_settings() -> jax.Array:
        return pick_tokens(penalise(logits, seen, draws.repetition_penalty), draws, places)

    special = jnp.any((draws.repetition_penalty != 1) | (draws.temperature > 0))
    chosen: jax.Array = jax.lax.cond(special, by_settings, lambda: greedy)
    return chosen


def pick_tokens(logits: jax.Array, draws: Draws, places: jax.Array) -> jax.Array:
    """The next token of each row, int32; logits (rows, vocabulary), places (rows,) count from 0."""
    greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    warm = draws.temperature > 0

    def draw() -> jax.Array:
        scaled = logits / jnp.where(warm, draws.temperature, jnp.float32(1))[:, None]
        limited = jnp.any(warm & ((draws.top_k > 0) | (draws.top_p < 1)))
        allowed = jax.lax.cond(limited, lambda: restrict(scaled, draws.top_k, draws.top_p), lambda: scaled)
        allowed = drop_unlikely(allowed, draws.min_p)
        noise = jax.vmap(_noise, in_axes=(0, 0, 0, 0, None))(
            draws.seed, draws.item, draws.sample, places, logits.shape[1]
        )
        return jnp.where(warm, jnp.argmax(allowed + noise, axis=-1).astype(jnp.int32), greedy)

    chosen: jax.Array = jax.lax.cond(jnp.any(warm), draw, lambda: greedy)
    return chosen


def log_probabilities(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """The natural logarithm of each token's probability; logits (rows, vocabulary), tokens (rows,)."""
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def restrict(logits: jax.Array, top_k: jax.Array, top_p: jax.Array) -> jax.Array:
    """Logits (rows, vocabulary) with -inf outside each row's top_k, then outside its top_p.

    top_p keeps the smallest set of likeliest tokens that holds that mass; ties with the last one stay.
    """
    order = _ordered(logits)
    size = jnp.where(top_k > 0, top_k, logits.shape[1])
    kept = order >= _threshold(order, lambda in_set: jnp.sum(in_set, axis=1, dtype=jnp.int32) >= size)
    logits = jnp.where(kept, logits, _OUT)
    mass = jax.nn.softmax(logits, axis=-1)
    enough = _threshold(order, lambda in_set: jnp.sum(jnp.where(in_set, mass, 0), axis=1) >= top_p)
    return jnp.where((order >= enough) | (top_p >= 1)[:, None], logits, _OUT)


def drop_unlikely(logits: jax.Array, min_p: jax.Array) -> jax.Array:
    """Logits (rows, vocabulary) with -inf where a probability is below min_p (rows,) of the highest."""
    least = jnp.max(logits, axis=-1) + jnp.log(min_p)  # the logarithm of 0 keeps everything
    return jnp.where(logits >= least[:, None], logits, _OUT)


def _threshold(order: jax.Array, holds: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The highest value (rows, 1) such that `holds(order >= value)`, found by halving.

    A sort of a 49,152-token vocabulary is several times slower on a CPU than 32 passes over it.
    """

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low & high) + ((low ^ high) >> 1)
        good = holds(order >= middle[:, None])
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    low, high = jnp.min(order, axis=1), jnp.max(order, axis=1) + 1
    found: jax.Array = jax.lax.fori_loop(0, 32, halve, (low, high))[0]
    return found[:, None]


def _ordered(values: jax.Array) -> jax.Array:
    """Integers in the order of the float32 values, so that halving ends at an exact value."""
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    return jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)


def _noise(seed: jax.Array, item: jax.Array, sample: jax.Array, place: jax.Array, size: int) -> jax.Array:
    key = jax.random.key(seed)
    for part in (item, sample, place):
        key = jax.random.fold_in(key, part)
    noise: jax.Array = jax.random.gumbel(key, (size,), jnp.float32)
    return noise
