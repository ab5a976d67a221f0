"""Attention from one new token a row to the row's cache, which takes the token's keys and values up."""

from __future__ import annotations

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
from llvmlite import ir

from tunix_rt.lm.kernels.custom_call import Kernel, Work, register
from tunix_rt.lm.kernels.emitter import F32, I32, LANES, Emitter, Value, vector, whole

_NEVER = -1e30  # the score of a place that is not seen
_LOWEST = -87.0  # exp of less is no normal float32
_EXP = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)  # Taylor, on [-ln 2 / 2, ln 2 / 2]
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # Cody and Waite 1980

Cache = tuple[jax.Array, jax.Array]


def fits(head_dim: int, capacity: int) -> bool:
    """Whether the kernel can be used: both must be multiples of 16."""
    return head_dim % LANES == 0 and capacity % LANES == 0


def append_and_attend(
    q: jax.Array, k: jax.Array, v: jax.Array, cache: Cache, lengths: jax.Array
) -> tuple[jax.Array, Cache]:
    """Write a token's k and v at place `lengths` of each row and attend to the places up to it.

    q (B, heads, D), k and v (B, kv_heads, D), keys (B, kv_heads, D, S), values (B, kv_heads, S, D),
    lengths (B,) int32; returns (B, heads, D) and the cache, which is changed in place where XLA may. A
    token whose place is S or more is not written. Softmax is computed as the places pass by (Milakov and
    Gimelshein 2018), 16 at a time, so the cost follows the lengths and not S.
    """
    keys, values = cache
    _, heads, head_dim = q.shape
    name = register(_kernel(heads // k.shape[1], head_dim))
    shapes = [
        jax.ShapeDtypeStruct(each.shape, jnp.float32)  # type: ignore[no-untyped-call]
        for each in (q, keys, values)
    ]
    call = jax.ffi.ffi_call(name, shapes, input_output_aliases={4: 1, 5: 2})
    mixed, keys, values = call(q, k, v, lengths.astype(jnp.int32), keys, values)
    return mixed, (keys, values)


@cache
def _kernel(group: int, head_dim: int) -> Kernel:
    return Kernel(
        f"tunix_rt_append_and_attend_{group}_{head_dim}",
        operands=6,
        sizes=((1, 0), (1, 1), (4, 3)),  # rows, kv heads, capacity
        chunks=lambda emit, sizes, _: emit.build.mul(sizes[0], sizes[1]),
        body=partial(_body, group=group, head_dim=head_dim),
        small=lambda emit, sizes: emit.build.icmp_signed("<", sizes[0], whole(2)),
    )


def _body(emit: Emitter, chunk: Value, work: Work, *, group: int, head_dim: int) -> None:
    """One kv head of one row, with the query heads that share it."""
    build = emit.build
    q, k, v, lengths, keys, values = work.operands
    _, kv_heads, capacity = work.sizes
    row = build.sdiv(chunk, kv_heads)
    filled = build.sext(emit.load(lengths, build.mul(row, whole(4)), I32), whole(0).type)
    head = build.mul(chunk, whole(4 * head_dim))
    own = build.mul(build.mul(chunk, capacity), whole(4 * head_dim))
    keys, values = (emit.address(each, own) for each in (keys, values))
    stride = build.mul(capacity, whole(4))
    new_keys, new_values = (emit.address(each, head) for each in (k, v))
    emit.when(
        build.icmp_signed("<", filled, capacity),
        lambda: _append(emit, (new_keys, new_values), (keys, values), filled, stride, head_dim),
    )
    queries = emit.address(q, build.mul(head, whole(group)))
    seen = emit.smaller(build.add(filled, whole(1)), capacity)
    mixed = _attend(emit, queries, (keys, values), (seen, stride), group, head_dim)
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
    extent: tuple[Value, Value],
    group: int,
    head_dim: int,
) -> list[Value]:
    """The weighted values of each query head: group times head_dim / 16 vectors."""
    build = emit.build
    parts = head_dim // LANES
    seen, _ = extent
    floats = vector(F32)
    zero, lowest = floats([0.0] * LANES), ir.Constant(F32, _NEVER)

    def block(start: Value, carried: list[Value]) -> list[Value]:
        highest, totals, sums = carried[:group], carried[group : 2 * group], carried[2 * group :]
        scores = _scores(emit, queries, cache[0], start, extent, group, head_dim)
        weights: list[Value] = []
        for index in range(group):
            top = _reduce(emit, "fmax", scores[index])
            new = build.select(build.fcmp_ordered(">", top, highest[index]), top, highest[index])
            shrink = _exp(emit, emit.splat(build.fsub(highest[index], new)))
            weights.append(_exp(emit, build.fsub(scores[index], emit.splat(new))))
            highest[index] = new
            totals[index] = emit.fma(totals[index], shrink, weights[index])
            for part in range(index * parts, (index + 1) * parts):
                sums[part] = build.fmul(sums[part], shrink)
        for lane in range(LANES):
            place = build.mul(build.add(start, whole(lane)), whole(4 * head_dim))
            loaded = [
                emit.load(cache[1], build.add(place, whole(4 * LANES * part)), floats, align=4)
                for part in range(parts)
            ]
            for index in range(group):
                weight = emit.splat_lane(weights[index], lane)
                for part in range(parts):
                    at = index * parts + part
                    sums[at] = emit.fma(weight, loaded[part], sums[at])
        return [*highest, *totals, *sums]

    begin = [lowest] * group + [zero] * (group + group * parts)
    ended = emit.loop(whole(0), seen, LANES, begin, block)
    mixed = []
    for index in range(group):
        total = emit.splat(_reduce(emit, "fadd", ended[group + index]))
        first = 2 * group + index * parts
        mixed += [build.fdiv(each, total) for each in ended[first : first + parts]]
    return mixed


def _scores(
    emit: Emitter,
    queries: Value,
    keys: Value,
    start: Value,
    extent: tuple[Value, Value],
    group: int,
    head_dim: int,
) -> list[Value]:
    """The scores of 16 places for each query head, _NEVER past the last place seen."""
    build = emit.build
    seen, stride = extent
    column = emit.address(keys, build.mul(start, whole(4)))

    def add(index: Value, sums: list[Value]) -> list[Value]:
        loaded = emit.load(column, build.mul(index, stride), vector(F32), align=4)
        place = build.mul(index, whole(4))
        return [
            emit.fma(
                emit.splat(emit.load(queries, build.add(place, whole(4 * head_dim * head)), F32)),
                loaded,
                sums[head],
            )
            for head in range(group)
        ]

    zero = vector(F32)([0.0] * LANES)
    sums = emit.loop(whole(0), whole(head_dim), 1, [zero] * group, add)
    lanes = vector(I32)(list(range(LANES)))
    left = emit.splat(build.trunc(build.sub(seen, start), I32))
    visible = build.icmp_signed("<", lanes, left)
    scale, never = (vector(F32)([value] * LANES) for value in (1 / math.sqrt(head_dim), _NEVER))
    return [build.select(visible, build.fmul(each, scale), never) for each in sums]


def _exp(emit: Emitter, x: Value) -> Value:
    """exp of 16 numbers that are 0 or less; 0 below -87, relative error about 1e-7."""
    build = emit.build

    def all_lanes(value: float) -> Value:
        return vector(F32)([value] * LANES)

    tiny = build.fcmp_ordered("<", x, all_lanes(_LOWEST))
    bounded = build.select(tiny, all_lanes(_LOWEST), x)
    rounded = emit.round(build.fmul(bounded, all_lanes(1 / math.log(2))))
    rest = emit.fma(rounded, all_lanes(-_LN2_HIGH), bounded)
    rest = emit.fma(rounded, all_lanes(-_LN2_LOW), rest)
    value = all_lanes(_EXP[0])
    for factor in _EXP[1:]:
        value = emit.fma(value, rest, all_lanes(factor))
    whole_part = build.fptosi(rounded, vector(I32))
    exponent = build.shl(build.add(whole_part, vector(I32)([127] * LANES)), vector(I32)([23] * LANES))
    power = build.bitcast(exponent, vector(F32))
    return build.select(tiny, all_lanes(0.0), build.fmul(value, power))


def _reduce(emit: Emitter, kind: str, x: Value) -> Value:
    """The sum or the maximum of 16 numbers."""
    name = f"llvm.vector.reduce.{kind}.v{LANES}f32"
    if kind == "fmax":
        return emit.build.call(emit.declare(name, [vector(F32)], F32), [x])
    declared = emit.declare(name, [F32, vector(F32)], F32)
    return emit.build.call(declared, [ir.Constant(F32, 0.0), x], fastmath=("reassoc",))
