"""Attention over whole packed sequences and its gradient, without ever holding all weights.

Both directions go through blocks of queries; what lies before the first related segment or after a block
is never computed. Places of a negative segment, with which a row may begin, are seen by all of its later
segments above 0; the scores of these, and of what a block sees beside, lie next to one another. The gradient
makes the weights again from q, k and v (Dao et al. 2022, arXiv 2205.14135), so that nothing else is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tunix_rt.lm.kernels.custom_call import Kernel, Work, register
from tunix_rt.lm.kernels.emitter import F32, I32, I64, LANES, POINTER, VOID, Emitter, Value, vector, whole
from tunix_rt.lm.kernels.functions import exp_of_negative, lanes_of, larger_of, largest, total
from tunix_rt.lm.kernels.panels import ROWS, SCRATCH, Matrix, first_lanes, product

_BLOCK = 8 * ROWS  # queries
_NEVER = -1e30  # the score of a place that is not seen
_SIZES = ((0, 0), (0, 1), (0, 2), (1, 2), (0, 3))  # rows, length, heads, kv heads, head_dim


def attend(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, *, scale: float) -> jax.Array:
    """What each query sees of earlier places of its segment, and of the row's shared start, (B, T, heads, D).

    q (B, T, heads, D), k and v (B, T, kv_heads, D), segments (B, T) int32.
    """
    result = jax.ShapeDtypeStruct(q.shape, jnp.float32)  # type: ignore[no-untyped-call]
    made: jax.Array = jax.ffi.ffi_call(register(_kernel("attend", scale)), result)(q, k, v, segments)
    return made


def attend_gradient(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, mixed: jax.Array, *, scale: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The gradients at q, k and v for `mixed`, the gradient at what `attend` gave."""
    batch, length, heads, size = q.shape
    shared = k.shape[2]
    shape = (batch, length, heads + 2 * shared, size)
    result = jax.ShapeDtypeStruct(shape, jnp.float32)  # type: ignore[no-untyped-call]
    name = register(_kernel("attend_gradient", scale))
    made: jax.Array = jax.ffi.ffi_call(name, result)(q, k, v, segments, mixed)
    dq, dk, dv = jnp.split(made, [heads, heads + shared], axis=2)
    return dq, dk, dv


@cache
def _kernel(name: str, scale: float) -> Kernel:
    body, operands = (_forward, 4) if name == "attend" else (_backward, 5)
    return Kernel(
        f"tunix_rt_{name}_{scale.hex()}",
        operands,
        _SIZES,
        counted=None,
        chunks=lambda emit, sizes, _: emit.build.mul(sizes[0], sizes[3]),
        body=partial(_heads, body=body, scale=scale),
        small=lambda emit, sizes: emit.build.icmp_signed(
            "<", emit.build.mul(emit.build.mul(sizes[0], sizes[1]), sizes[2]), whole(64)
        ),
        early=False,
    )


class _Block(NamedTuple):
    """A block of queries of one head: `count` of them from `first`, which see `seen` places from `start`.

    Before these they see the row's first `lead` places. `segments` are those of all that they see.
    """

    first: Value
    count: Value
    start: Value
    seen: Value
    lead: Value
    segments: Value


class _Room(NamedTuple):
    """Room for the scores of a block, for their gradients, and for the products."""

    scores: Matrix
    gradients: Matrix
    scratch: Value


Body = Callable[[Emitter, Work, _Block, Value, Value, Value, _Room, float], None]


def _heads(emit: Emitter, chunk: Value, _following: Value, work: Work, *, body: Body, scale: float) -> None:
    """The query heads of one kv head of one row, a block of queries after the other."""
    build = emit.build
    _, length, heads, shared, _ = work.sizes
    row, kv_head = build.sdiv(chunk, shared), build.srem(chunk, shared)
    group = build.sdiv(heads, shared)
    segments = emit.address(work.operands[3], build.mul(build.mul(row, length), whole(4)))
    line = build.mul(build.add(length, whole(3 * LANES)), whole(4))
    square = build.mul(line, whole(_BLOCK))
    malloc = emit.declare("malloc", [I64], POINTER)
    scores = build.call(malloc, [build.add(build.add(build.mul(square, whole(2)), line), whole(SCRATCH))])
    gradients = emit.address(scores, square)
    related = emit.address(gradients, square)
    room = _Room(Matrix(scores, line), Matrix(gradients, line), emit.address(related, line))
    shared_start = _shared_start(emit, segments, length)
    if body is _backward:
        _clear(emit, work, row, kv_head)

    def block(first: Value, _: list[Value]) -> None:
        count = emit.smaller(whole(_BLOCK), build.sub(length, first))
        lead = build.select(build.icmp_signed("<", first, shared_start), whole(0), shared_start)
        start = _first_related(emit, segments, lead, first, count)
        seen = build.sub(build.add(first, count), start)
        place = _Block(first, count, start, seen, lead, related)
        _copy(emit, segments, related, lead)
        from_start = emit.address(segments, build.mul(start, whole(4)))
        _copy(emit, from_start, emit.address(related, build.mul(lead, whole(4))), seen)

        def head(index: Value, _: list[Value]) -> None:
            own = build.add(build.mul(kv_head, group), index)
            body(emit, work, place, row, own, kv_head, room, scale)

        emit.loop(whole(0), group, 1, [], head)

    emit.loop(whole(0), length, _BLOCK, [], block)
    build.call(emit.declare("free", [POINTER], VOID), [scores])


def _shared_start(emit: Emitter, segments: Value, length: Value) -> Value:
    """How many places have a negative segment."""
    build = emit.build

    def counted(place: Value, sums: list[Value]) -> list[Value]:
        own = emit.load(segments, build.mul(place, whole(4)), I32)
        return [build.add(sums[0], build.zext(build.icmp_signed("<", own, I32(0)), I64))]

    return emit.loop(whole(0), length, 1, [whole(0)], counted)[0]


def _copy(emit: Emitter, source: Value, target: Value, count: Value) -> None:
    """Copies whole numbers."""
    build = emit.build

    def move(index: Value, _: list[Value]) -> None:
        offset = build.mul(index, whole(4))
        emit.store(emit.load(source, offset, I32), target, offset)

    emit.loop(whole(0), count, 1, [], move)


def _first_related(emit: Emitter, segments: Value, lead: Value, first: Value, count: Value) -> Value:
    """The first place from `lead` on whose segment a query of the block may have.

    Passed over are places of segments, other than 0, below the block's lowest or above its highest.
    """
    build = emit.build

    def segment(place: Value) -> Value:
        return emit.load(segments, build.mul(place, whole(4)), I32)

    def widen(place: Value, bounds: list[Value]) -> list[Value]:
        low, high = bounds
        own = segment(place)
        lower = build.and_(build.icmp_signed("<", own, low), build.icmp_signed("!=", own, I32(0)))
        return [build.select(lower, own, low), build.select(build.icmp_signed(">", own, high), own, high)]

    most = I32(2**31 - 1)
    low, high = emit.loop(first, build.add(first, count), 1, [most, I32(-(2**31))], widen)

    def search(place: Value, found: list[Value]) -> list[Value]:
        own = segment(place)
        within = build.and_(build.icmp_signed(">=", own, low), build.icmp_signed("<=", own, high))
        related = build.or_(within, build.icmp_signed("==", own, I32(0)))
        earlier = build.and_(related, build.icmp_signed("<", place, found[0]))
        return [build.select(earlier, place, found[0])]

    return emit.loop(lead, first, 1, [first], search)[0]


def _of_head(
    emit: Emitter, base: Value, heads: Value, size: Value, length: Value, at: tuple[Value, Value, Value]
) -> Matrix:
    """The matrix (places, head_dim) of a head in (B, T, heads, D), from (row, place, head) on."""
    build = emit.build
    row, place, head = at
    line = build.mul(build.mul(heads, size), whole(4))
    offset = build.add(
        build.mul(build.add(build.mul(row, length), place), line), build.mul(build.mul(head, size), whole(4))
    )
    return Matrix(emit.address(base, offset), line)


def _forward(
    emit: Emitter,
    work: Work,
    block: _Block,
    row: Value,
    head: Value,
    kv_head: Value,
    room: _Room,
    scale: float,
) -> None:
    _, length, heads, shared, size = work.sizes
    q = _of_head(emit, work.operands[0], heads, size, length, (row, block.first, head))
    mixed = _of_head(emit, work.results[0], heads, size, length, (row, block.first, head))
    _weights(emit, work, block, (row, kv_head), q, room, scale)

    def mix(part: _Part) -> None:
        v = _of_head(emit, work.operands[2], shared, size, length, (row, part.start, kv_head))
        scores = _columns(emit, room.scores, part)
        _product(emit, (scores, v, mixed), (block.count, size, part.count), room, "plain", part.behind)

    _parts(emit, block, mix)


def _backward(
    emit: Emitter,
    work: Work,
    block: _Block,
    row: Value,
    head: Value,
    kv_head: Value,
    room: _Room,
    scale: float,
) -> None:
    build = emit.build
    _, length, heads, shared, size = work.sizes
    q, mixed = (
        _of_head(emit, work.operands[index], heads, size, length, (row, block.first, head))
        for index in (0, 4)
    )
    every = build.add(heads, build.add(shared, shared))
    at_k = build.add(heads, kv_head)
    at_v = build.add(at_k, shared)
    dq = _of_head(emit, work.results[0], every, size, length, (row, block.first, head))
    count = block.count
    _weights(emit, work, block, (row, kv_head), q, room, scale)

    def from_weights(part: _Part) -> None:
        v = _of_head(emit, work.operands[2], shared, size, length, (row, part.start, kv_head))
        dv = _of_head(emit, work.results[0], every, size, length, (row, part.start, at_v))
        scores, gradients = (_columns(emit, each, part) for each in (room.scores, room.gradients))
        _product(emit, (mixed, v, gradients), (count, part.count, size), room, "right turned", whole(0))
        _product(emit, (scores, mixed, dv), (part.count, size, count), room, "left turned", whole(1))

    def from_scores(part: _Part) -> None:
        k = _of_head(emit, work.operands[1], shared, size, length, (row, part.start, kv_head))
        dk = _of_head(emit, work.results[0], every, size, length, (row, part.start, at_k))
        gradients = _columns(emit, room.gradients, part)
        _product(emit, (gradients, k, dq), (count, size, part.count), room, "plain", part.behind)
        _product(emit, (gradients, q, dk), (part.count, size, count), room, "left turned", whole(1))

    _parts(emit, block, from_weights)
    _score_gradients(emit, block, room, scale)
    _parts(emit, block, from_scores)


class _Part(NamedTuple):
    """Places that lie together, `count` from `start`, and the column of their scores; `behind` others: 1."""

    start: Value
    count: Value
    column: Value
    behind: Value


def _parts(emit: Emitter, block: _Block, do: Callable[[_Part], None]) -> None:
    """Does something with the row's shared start, where the block sees one apart, and with the rest."""
    apart = emit.build.icmp_signed(">", block.lead, whole(0))
    emit.when(apart, lambda: do(_Part(whole(0), block.lead, whole(0), whole(0))))
    do(_Part(block.start, block.seen, block.lead, emit.build.zext(apart, I64)))


def _columns(emit: Emitter, scores: Matrix, part: _Part) -> Matrix:
    """The scores of a part."""
    return Matrix(emit.address(scores.start, emit.build.mul(part.column, whole(4))), scores.line)


def _product(
    emit: Emitter,
    matrices: tuple[Matrix, Matrix, Matrix],
    extent: tuple[Value, Value, Value],
    room: _Room,
    kind: str,
    add: Value,
) -> None:
    """left times right into the result, or added to it."""
    function = product(emit.module, left_turned=kind == "left turned", right_turned=kind == "right turned")
    places = [value for matrix in matrices for value in matrix]
    emit.build.call(function, [*places, *extent, room.scratch, add])


def _weights(
    emit: Emitter,
    work: Work,
    block: _Block,
    at: tuple[Value, Value],
    q: Matrix,
    room: _Room,
    scale: float,
) -> None:
    """The softmax of a block's scores by a row and a kv head, in place; places that are not seen get 0."""
    build = emit.build
    _, length, _, shared, size = work.sizes
    row, kv_head = at

    def multiply(part: _Part) -> None:
        k = _of_head(emit, work.operands[1], shared, size, length, (row, part.start, kv_head))
        scores = _columns(emit, room.scores, part)
        _product(emit, (q, k, scores), (block.count, part.count, size), room, "right turned", whole(0))

    _parts(emit, block, multiply)
    columns = build.add(block.lead, block.seen)
    behind = build.sub(block.lead, block.start)  # from a place to its column
    zeros = vector(I32)([0] * LANES)
    lanes = vector(I32)(list(range(LANES)))

    def query(index: Value, _: list[Value]) -> None:
        line = emit.address(room.scores.start, build.mul(index, room.scores.line))
        column = build.add(build.add(block.first, index), behind)
        own = emit.splat(emit.load(block.segments, build.mul(column, whole(4)), I32))
        sharing = build.icmp_signed(">", own, zeros)
        last = build.add(column, whole(1))

        def visible(column: Value) -> Value:
            left = emit.splat(build.trunc(build.sub(last, column), I32))
            early = build.icmp_signed("<", lanes, left)
            segment = _load_whole(emit, emit.address(block.segments, build.mul(column, whole(4))), early)
            shared = build.and_(sharing, build.icmp_signed("<", segment, zeros))
            return build.and_(early, build.or_(shared, build.icmp_signed("==", segment, own)))

        def highest(column: Value, top: list[Value]) -> list[Value]:
            score = emit.load(line, build.mul(column, whole(4)), vector(F32), align=4)
            score = build.select(visible(column), build.fmul(score, lanes_of(scale)), lanes_of(_NEVER))
            emit.store(score, line, build.mul(column, whole(4)), align=4)
            return [larger_of(emit, score, top[0])]

        top = emit.splat(largest(emit, emit.loop(whole(0), last, LANES, [lanes_of(_NEVER)], highest)[0]))

        def grow(column: Value, sums: list[Value]) -> list[Value]:
            score = emit.load(line, build.mul(column, whole(4)), vector(F32), align=4)
            weight = exp_of_negative(emit, build.fsub(score, top))
            emit.store(weight, line, build.mul(column, whole(4)), align=4)
            return [build.fadd(sums[0], weight)]

        summed = emit.splat(total(emit, emit.loop(whole(0), last, LANES, [lanes_of(0.0)], grow)[0]))
        share = build.fdiv(lanes_of(1.0), summed)

        def divide(column: Value, _: list[Value]) -> None:
            weight = emit.load(line, build.mul(column, whole(4)), vector(F32), align=4)
            emit.store(build.fmul(weight, share), line, build.mul(column, whole(4)), align=4)

        emit.loop(whole(0), last, LANES, [], divide)
        done = build.mul(build.sdiv(build.add(last, whole(LANES - 1)), whole(LANES)), whole(LANES))
        emit.loop(
            done, columns, LANES, [],
            lambda column, _: emit.store(lanes_of(0.0), line, build.mul(column, whole(4)), align=4),
        )  # fmt: skip

    emit.loop(whole(0), block.count, 1, [], query)


def _score_gradients(emit: Emitter, block: _Block, room: _Room, scale: float) -> None:
    """From the gradients at the weights those at the scores, in place: w (g - sum of w g) scale."""
    build = emit.build
    columns = build.add(block.lead, block.seen)

    def query(index: Value, _: list[Value]) -> None:
        weights, gradients = (
            emit.address(each.start, build.mul(index, each.line)) for each in (room.scores, room.gradients)
        )

        def pair(column: Value) -> tuple[Value, Value]:
            weight, gradient = (
                emit.load(each, build.mul(column, whole(4)), vector(F32), align=4)
                for each in (weights, gradients)
            )
            few = first_lanes(emit, build.sub(columns, column))  # behind them is what was there before
            return weight, build.select(few, gradient, lanes_of(0.0))

        def mean(column: Value, sums: list[Value]) -> list[Value]:
            weight, gradient = pair(column)
            return [emit.fma(weight, gradient, sums[0])]

        middle = emit.splat(total(emit, emit.loop(whole(0), columns, LANES, [lanes_of(0.0)], mean)[0]))

        def change(column: Value, _: list[Value]) -> None:
            weight, gradient = pair(column)
            made = build.fmul(build.fmul(weight, lanes_of(scale)), build.fsub(gradient, middle))
            emit.store(made, gradients, build.mul(column, whole(4)), align=4)

        emit.loop(whole(0), columns, LANES, [], change)

    emit.loop(whole(0), block.count, 1, [], query)


def _clear(emit: Emitter, work: Work, row: Value, kv_head: Value) -> None:
    """Writes zeros as the gradients at a head's keys and values, to which blocks add."""
    build = emit.build
    _, length, heads, shared, size = work.sizes
    every = build.add(heads, build.add(shared, shared))
    for first in (heads, build.add(heads, shared)):
        target = _of_head(
            emit, work.results[0], every, size, length, (row, whole(0), build.add(first, kv_head))
        )

        def place(index: Value, _: list[Value], target: Matrix = target) -> None:
            line = emit.address(target.start, build.mul(index, target.line))
            emit.loop(
                whole(0), size, 1, [],
                lambda at, _: emit.store(F32(0.0), line, build.mul(at, whole(4)), align=4),
            )  # fmt: skip

        emit.loop(whole(0), length, 1, [], place)


def _load_whole(emit: Emitter, place: Value, mask: Value) -> Value:
    """The whole numbers of the mask's lanes."""
    kind = vector(I32)
    load = emit.declare("llvm.masked.load.v16i32.p0", [POINTER, I32, mask.type, kind], kind)
    return emit.build.call(load, [place, I32(4), mask, kind([0] * LANES)])
