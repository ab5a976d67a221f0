"""The compiled programs of batched decoding: prefill, a segment of steps, a change of shape."""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from tunix_rt.lm.config import ModelConfig
from tunix_rt.lm.model import Decoder, KeysValues
from tunix_rt.lm.sampling import Draws, choose_tokens, log_probabilities
from tunix_rt.lm.tiled import likeliest_tokens, only_rows

NO_TOKEN = -1


class Rows(NamedTuple):
    """A batch being decoded; every array but the cache's has shape (rows,).

    `cache` has for each layer keys (rows, kv_heads, head_dim, capacity) and values (rows, kv_heads,
    capacity, head_dim), of which a row's first `lengths` are filled; `last` is the newest token, not
    yet in the cache; `made` counts the tokens chosen so far and `left` those still allowed. `seen`
    (rows, vocabulary) marks the tokens that stand in a row's prompt or output.
    """

    cache: list[KeysValues]
    last: jax.Array
    lengths: jax.Array
    made: jax.Array
    left: jax.Array
    active: jax.Array
    draws: Draws
    seen: jax.Array


Carry = tuple[jax.Array, Rows, jax.Array, jax.Array | None]


class Packed(NamedTuple):
    """Segments of prompts laid end to end, and the rows they go to.

    tokens, positions, segments and after have shape (1, length): `segments` numbers the segments from 1,
    0 is padding, and `after` is the segment that a token's own continues, -1 for none. The others have
    (prompts,), of which the first `number` are used; `slots` of the unused ones lie outside every batch.
    A prompt is the first `shared_lengths` tokens of segment `shared`, at `shared_starts`, and segment
    `own`, at `starts`; without a shared one `shared` is `own`.
    """

    tokens: jax.Array
    positions: jax.Array
    segments: jax.Array
    after: jax.Array
    starts: jax.Array
    lengths: jax.Array
    shared_starts: jax.Array
    shared_lengths: jax.Array
    own: jax.Array
    shared: jax.Array
    slots: jax.Array
    left: jax.Array
    draws: Draws
    number: jax.Array


def empty_rows(config: ModelConfig, rows: int, *, capacity: int) -> Rows:
    """A batch in which no row is active."""
    heads, size = config.num_kv_heads, config.head_dim
    cache = [
        (jnp.zeros((rows, heads, size, capacity)), jnp.zeros((rows, heads, capacity, size)))
        for _ in range(config.num_layers)
    ]
    zero = [jnp.zeros(rows, jnp.int32) for _ in range(8)]  # each its own: they are given away together
    off = [jnp.zeros(rows, jnp.float32) for _ in range(2)]
    one = [jnp.ones(rows, jnp.float32) for _ in range(2)]
    draws = Draws(off[0], zero[0], one[0], zero[1], zero[2], zero[3], off[1], one[1])
    seen = jnp.zeros((rows, config.vocab_size), bool)
    return Rows(cache, zero[4], zero[5], zero[6], zero[7], jnp.zeros(rows, bool), draws, seen)


@lru_cache(maxsize=1024)
def rows_bytes(config: ModelConfig, rows: int, capacity: int) -> int:
    """The memory of a batch of this shape; makes no array."""
    shapes = jax.eval_shape(lambda: empty_rows(config, rows, capacity=capacity))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


@partial(jax.jit, static_argnames=("graph", "with_values"))
def prefill(
    graph: Any, state: Any, packed: Packed, *, with_values: bool = False
) -> tuple[list[KeysValues], jax.Array, jax.Array, jax.Array | None]:
    """Read new prompts: each layer's keys and values (1, length, …), first tokens, and tokens seen.

    With `with_values` also the log-probabilities of the first tokens. One packed sequence, and no
    batch: the program depends on the packed length alone.
    """
    model: Decoder = nnx.merge(graph, state)
    length, most = packed.tokens.shape[1], packed.starts.shape[0]
    with only_rows(jnp.sum(packed.segments > 0), jnp.arange(length)):
        hidden, fresh = model.hidden_and_cache(packed.tokens, packed.positions, packed.segments, packed.after)
    ends = packed.starts + packed.lengths - packed.shared_lengths - 1
    with only_rows(packed.number, jnp.arange(most)):
        logits = model.logits(hidden[ends])
        greedy = likeliest_tokens(logits)
    prompts, vocabulary = logits.shape
    stands = jnp.zeros((2 * prompts + 1, vocabulary), bool).at[packed.segments[0], packed.tokens[0]].set(True)
    seen = stands[packed.own] | stands[packed.shared]
    first = choose_tokens(logits, greedy, seen, packed.draws, jnp.zeros_like(packed.slots))
    values = log_probabilities(logits, first) if with_values else None
    return fresh, first, seen.at[jnp.arange(prompts), first].set(True), values


@partial(jax.jit, donate_argnames=("rows",))
def admit(
    rows: Rows,
    packed: Packed,
    fresh: list[KeysValues],
    tokens: jax.Array,
    seen: jax.Array,
    eos: jax.Array,
) -> Rows:
    """The batch with prompts that `prefill` has read in their rows."""
    left = packed.left - 1
    active = (left > 0) & ~_is_stop(tokens, eos)

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[packed.slots].set(new, mode="drop")

    return Rows(
        cache=_store(rows.cache, fresh, packed),
        last=put(rows.last, tokens),
        lengths=put(rows.lengths, packed.lengths),
        made=put(rows.made, jnp.ones_like(tokens)),
        left=put(rows.left, left),
        active=put(rows.active, active),
        draws=jax.tree.map(put, rows.draws, packed.draws),
        seen=put(rows.seen, seen),
    )


@partial(jax.jit, static_argnames=("graph", "steps", "with_values"), donate_argnames=("rows",))
def decode_segment(
    graph: Any, state: Any, rows: Rows, eos: jax.Array, *, steps: int, with_values: bool = False
) -> tuple[Rows, jax.Array, jax.Array | None]:
    """Up to `steps` tokens for every active row, fewer where all rows end before.

    Returns the batch and the tokens (rows, steps), NO_TOKEN where a row made none; a row's stop token
    is among its tokens. With `with_values` also the tokens' log-probabilities before any sampling
    setting (rows, steps).
    """
    model: Decoder = nnx.merge(graph, state)

    def unfinished(carry: Carry) -> jax.Array:
        step, rows, *_ = carry
        return (step < steps) & jnp.any(rows.active)

    def advance(carry: Carry) -> Carry:
        step, rows, made, values = carry
        with only_rows(jnp.sum(rows.active), jnp.argsort(~rows.active)):
            hidden, cache = model.next_hidden(rows.last, rows.lengths, rows.cache)
            logits = model.logits(hidden)
            greedy = likeliest_tokens(logits)
        tokens = choose_tokens(logits, greedy, rows.seen, rows.draws, rows.made)
        if values is not None:
            new = log_probabilities(logits, tokens)[:, None]
            values = jax.lax.dynamic_update_slice(values, new, (0, step))
        every, nowhere = jnp.arange(tokens.shape[0]), jnp.int32(logits.shape[1])
        seen = rows.seen.at[every, jnp.where(rows.active, tokens, nowhere)].set(True, mode="drop")
        tokens = jnp.where(rows.active, tokens, NO_TOKEN)
        one = rows.active.astype(jnp.int32)
        left = rows.left - one
        rows = Rows(
            cache=cache,
            last=jnp.where(rows.active, tokens, rows.last),
            lengths=rows.lengths + one,
            made=rows.made + one,
            left=left,
            active=rows.active & (left > 0) & ~_is_stop(tokens, eos),
            draws=rows.draws,
            seen=seen,
        )
        return step + 1, rows, jax.lax.dynamic_update_slice(made, tokens[:, None], (0, step)), values

    blank = jnp.full((rows.last.shape[0], steps), NO_TOKEN, jnp.int32)
    none = jnp.zeros(blank.shape, jnp.float32) if with_values else None
    _, rows, made, values = jax.lax.while_loop(unfinished, advance, (jnp.int32(0), rows, blank, none))
    return rows, made, values


@partial(jax.jit, static_argnames=("capacity",))
def reshape_rows(rows: Rows, kept: jax.Array, used: jax.Array, *, capacity: int) -> Rows:
    """The batch with rows `kept` (new rows,), of which the first `used` count, and another capacity."""
    rows = jax.tree.map(lambda array: array[kept], rows)

    def fit(array: jax.Array, axis: int) -> jax.Array:
        missing = capacity - array.shape[axis]
        if missing <= 0:
            return jax.lax.slice_in_dim(array, 0, capacity, axis=axis)
        return jnp.pad(array, [(0, missing if each == axis else 0) for each in range(4)])

    cache = [(fit(keys, 3), fit(values, 2)) for keys, values in rows.cache]
    counted = jnp.arange(kept.shape[0]) < used
    return rows._replace(cache=cache, active=rows.active & counted)


def _is_stop(tokens: jax.Array, eos: jax.Array) -> jax.Array:
    return jnp.any(tokens[:, None] == eos[None, :], axis=1)


def _store(cache: list[KeysValues], fresh: list[KeysValues], packed: Packed) -> list[KeysValues]:
    """Copy each prompt's keys and values, the shared ones first, to the start of its row.

    A whole window is copied; what lies past the prompt is overwritten before it is ever seen.
    """
    window = min(packed.tokens.shape[1], cache[0][1].shape[2])
    places = jnp.arange(window)

    def copy(index: jax.Array, cache: list[KeysValues]) -> list[KeysValues]:
        slot, shared = packed.slots[index], packed.shared_lengths[index]
        inside = packed.shared_starts[index] + places
        source = jnp.where(places < shared, inside, packed.starts[index] - shared + places)

        def put(old: jax.Array, new: jax.Array, order: tuple[int, int, int]) -> jax.Array:
            part = jnp.take(new[0], source, axis=0, mode="clip")
            return jax.lax.dynamic_update_slice(old, part.transpose(order)[None], (slot, 0, 0, 0))

        return [
            (put(keys, new_keys, (1, 2, 0)), put(values, new_values, (1, 0, 2)))
            for (keys, values), (new_keys, new_values) in zip(cache, fresh, strict=True)
        ]

    stored: list[KeysValues] = jax.lax.fori_loop(jnp.int32(0), packed.number, copy, cache)
    return stored
