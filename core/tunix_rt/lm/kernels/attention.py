"""Attention from one new token a row to the row's cache, which takes the token's keys and values up."""

from __future__ import annotations

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
from llvmlite import ir

from tunix_rt.lm.kernels.custom_call import Kernel, Work, register
from tunix_rt.lm.kernels.emitter import F32, I32, LANES, Emitter, Value, vector, whole
from tunix_rt.lm.kernels.functions import exp_of_negative
from tunix_rt.lm.kernels.matmul import every_row

_NEVER = -1e30  # the score of a place that is not seen

Cache = tuple[jax.Array, jax.Array]


def fits(head_dim: int, capacity: int) -> bool:
    """Whether the kernel can be used: both must be multiples of 16."""
    return head_dim % LANES == 0 and capacity % LANES == 0


def append_and_attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    cache: Cache,
    lengths: jax.Array,
    used: jax.Array | None = None,
) -> tuple[jax.Array, Cache]:
    """Write a token's k and v at place `lengths` of each row and attend to the places up to it.

    q (B, heads, D), k and v (B, kv_heads, D), keys (B, kv_heads, D, S), values (B, kv_heads, S, D),
    lengths (B,) int32; returns (B, heads, D) and the cache, which is changed in place where XLA may. A
    token whose place is S or more is not written. Softmax is computed as the places pass by (Milakov and
    Gimelshein 2018), 16 at a time, so the cost follows the lengths and not S. Only rows that are `used`
    (see `tiled_matmul`) attend and are written to; the result for the others is 0.
    """
    keys, values = cache
    _, heads, head_dim = q.shape
    name = register(_kernel(heads // k.shape[1], head_dim))
    shapes = [
        jax.ShapeDtypeStruct(each.shape, jnp.float32)  # type: ignore[no-untyped-call]
        for each in (q, keys, values)
    ]
    call = jax.ffi.ffi_call(name, shapes, input_output_aliases={5: 1, 6: 2})
    rows = every_row(q.shape[0]) if used is None else used
    mixed, keys, values = call(q, k, v, lengths.astype(jnp.int32), rows, keys, values)
    return mixed, (keys, values)


@cache
def _kernel(group: int, head_dim: int) -> Kernel:
    return Kernel(
        f"tunix_rt_append_and_attend_{group}_{head_dim}",
        operands=7,
        sizes=((1, 0), (1, 1), (5, 3)),  # rows, kv heads, capacity; the used rows come after them
        counted=4,
        chunks=lambda emit, sizes, _: emit.build.mul(sizes[0], sizes[1]),
        body=partial(_body, group=group, head_dim=head_dim),
        small=lambda emit, sizes: emit.build.icmp_signed("<", sizes[3], whole(2)),
    )


def _body(emit: Emitter, chunk: Value, following: Value, work: Work, *, group: int, head_dim: int) -> None:
    """One kv head of one row, with the query heads that share it."""
    build = emit.build
    _, kv_heads, _, used = work.sizes
    own, following = (_head_of(emit, work, each) for each in (chunk, following))
    counts = build.icmp_signed("<", chunk, build.mul(used, kv_heads))
    emit.when(counts, lambda: _one_head(emit, own, following, work, group, head_dim))
    emit.when(build.not_(counts), lambda: _clear(emit, work.results[0], own, group * head_dim))


def _head_of(emit: Emitter, work: Work, chunk: Value) -> Value:
    """A row's index times the number of kv heads, and the head's: chunks go by the list of rows."""
    build, kv_heads = emit.build, work.sizes[1]
    place = build.sdiv(chunk, kv_heads)
    row = build.sext(
        emit.load(work.operands[4], build.mul(build.add(place, whole(1)), whole(4)), I32), place.type
    )
    return build.add(build.mul(row, kv_heads), build.srem(chunk, kv_heads))


def _clear(emit: Emitter, target: Value, head: Value, size: int) -> None:
    start = emit.address(target, emit.build.mul(head, whole(4 * size)))
    for offset in range(0, 4 * size, 4 * LANES):
        emit.store(vector(F32)([0.0] * LANES), start, offset, align=4)


def _one_head(emit: Emitter, own: Value, following: Value, work: Work, group: int, head_dim: int) -> None:
    build = emit.build
    q, k, v, lengths, _, keys, values = work.operands
    _, kv_heads, capacity, _ = work.sizes
    row = build.sdiv(own, kv_heads)
    filled = build.sext(emit.load(lengths, build.mul(row, whole(4)), I32), whole(0).type)
    head = build.mul(own, whole(4 * head_dim))
    ahead = build.mul(build.mul(build.sub(following, own), capacity), whole(4 * head_dim))
    start = build.mul(build.mul(own, capacity), whole(4 * head_dim))
    keys, values = (emit.address(each, start) for each in (keys, values))
    stride = build.mul(capacity, whole(4))
    new_keys, new_values = (emit.address(each, head) for each in (k, v))
    emit.when(
        build.icmp_signed("<", filled, capacity),
        lambda: _append(emit, (new_keys, new_values), (keys, values), filled, stride, head_dim),
    )
    queries = emit.address(q, build.mul(head, whole(group)))
    seen = emit.smaller(build.add(filled, whole(1)), capacity)
    mixed = _attend(emit, queries, (keys, values), (seen, stride, ahead), group, head_dim)
    result = emit.address(work.results[0], build.mul(head, whole(group)))
    for index, part in enumerate(mixed):
        emit.store(part, result, 4 * LANES * index, align=4)


def _append(
    emit: Emitter,
    new: tuple[Value, Value],
    cache: tuple[Value, Value],
    place: Value,
    stride: Value,
    head_dim: int,
) -> None:
    build = emit.build
    column = emit.address(cache[0], build.mul(place, whole(4)))

    def copy(index: Value, _: list[Value]) -> None:
        value = emit.load(new[0], build.mul(index, whole(4)), F32)
        emit.store(value, column, build.mul(index, stride))

    emit.loop(whole(0), whole(head_dim), 1, [], copy)
    row = build.mul(place, whole(4 * head_dim))
    for part in range(0, 4 * head_dim, 4 * LANES):
        loaded = emit.load(new[1], part, vector(F32), align=4)
        emit.store(loaded, cache[1], build.add(row, whole(part)), align=4)


def _attend(
    emit: Emitter,
    queries: Value,
    cache: tuple[Value, Value],
    extent: tuple[Value, Value, Value],
    group: int,
    head_dim: int,
) -> list[Value]:
    """The weighted values of each query head: group times head_dim / 16 vectors.

    `extent` is the number of places seen, the bytes from one number of a key to the next, and the bytes to
    the cache that is read next, of which as much is brought nearer.
    """
    build = emit.build
    parts = head_dim // LANES
    seen, _, ahead = extent
    floats = vector(F32)
    zero, lowest = floats([0.0] * LANES), ir.Constant(F32, _NEVER)

    def block(start: Value, carried: list[Value]) -> list[Value]:
        return mix(start, scores_of(start), carried)

    def two_blocks(start: Value, carried: list[Value]) -> list[Value]:
        second = build.add(start, whole(LANES))
        scores = _scores(emit, queries, cache[0], [start, second], extent, group, head_dim)
        return mix(second, scores[group:], mix(start, scores[:group], carried))

    def scores_of(start: Value) -> list[Value]:
        return _scores(emit, queries, cache[0], [start], extent, group, head_dim)

    def mix(start: Value, scores: list[Value], carried: list[Value]) -> list[Value]:
        highest, totals, sums = carried[:group], carried[group : 2 * group], carried[2 * group :]
        weights: list[Value] = []
        for index in range(group):
            top = emit.reduce("fmax", scores[index])
            new = build.select(build.fcmp_ordered(">", top, highest[index]), top, highest[index])
            shrink = exp_of_negative(emit, emit.splat(build.fsub(highest[index], new)))
            weights.append(exp_of_negative(emit, build.fsub(scores[index], emit.splat(new))))
            highest[index] = new
            totals[index] = emit.fma(totals[index], shrink, weights[index])
            for part in range(index * parts, (index + 1) * parts):
                sums[part] = build.fmul(sums[part], shrink)
        for lane in range(LANES):
            place = build.mul(build.add(start, whole(lane)), whole(4 * head_dim))
            offsets = [build.add(place, whole(4 * LANES * part)) for part in range(parts)]
            loaded = [emit.load(cache[1], offset, floats, align=4) for offset in offsets]
            for offset in offsets:
                emit.prefetch(cache[1], build.add(offset, ahead))
            for index in range(group):
                weight = emit.splat_lane(weights[index], lane)
                for part in range(parts):
                    at = index * parts + part
                    sums[at] = emit.fma(weight, loaded[part], sums[at])
        return [*highest, *totals, *sums]

    begin = [lowest] * group + [zero] * (group + group * parts)
    even = build.and_(build.add(seen, whole(LANES - 1)), whole(-2 * LANES))
    begun = emit.loop(whole(0), even, 2 * LANES, begin, two_blocks)
    ended = emit.loop(even, seen, LANES, begun, block)
    mixed = []
    for index in range(group):
        total = emit.splat(emit.reduce("fadd", ended[group + index]))
        first = 2 * group + index * parts
        mixed += [build.fdiv(each, total) for each in ended[first : first + parts]]
    return mixed


def _scores(
    emit: Emitter,
    queries: Value,
    keys: Value,
    starts: list[Value],
    extent: tuple[Value, Value, Value],
    group: int,
    head_dim: int,
) -> list[Value]:
    """The scores of 16 places after each start for each query head, _NEVER past the last place seen."""
    build = emit.build
    seen, stride, ahead = extent
    columns = [emit.address(keys, build.mul(start, whole(4))) for start in starts]

    def add(index: Value, sums: list[Value]) -> list[Value]:
        offset = build.mul(index, stride)
        loaded = [emit.load(column, offset, vector(F32), align=4) for column in columns]
        for column in columns:
            emit.prefetch(column, build.add(offset, ahead))
        place = build.mul(index, whole(4))
        query = [
            emit.splat(emit.load(queries, build.add(place, whole(4 * head_dim * head)), F32))
            for head in range(group)
        ]
        pairs = [(value, key) for key in loaded for value in query]
        return [emit.fma(*pair, total) for pair, total in zip(pairs, sums, strict=True)]

    zero = vector(F32)([0.0] * LANES)
    sums = emit.loop(whole(0), whole(head_dim), 1, [zero] * (group * len(starts)), add)
    lanes = vector(I32)(list(range(LANES)))
    scale, never = (vector(F32)([value] * LANES) for value in (1 / math.sqrt(head_dim), _NEVER))
    scores = []
    for at, total in enumerate(sums):
        left = emit.splat(build.trunc(build.sub(seen, starts[at // group]), I32))
        visible = build.icmp_signed("<", lanes, left)
        scores.append(build.select(visible, build.fmul(total, scale), never))
    return scores
