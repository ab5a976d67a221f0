"""The softmax of rows of logits, what it says about the targets, and the gradient in place of the logits."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tunix_rt.lm.kernels.custom_call import Kernel, Work, register
from tunix_rt.lm.kernels.emitter import F32, I32, LANES, Emitter, Value, vector, whole
from tunix_rt.lm.kernels.functions import exp_of_negative, lanes_of, larger_of, largest, total
from tunix_rt.lm.kernels.panels import first_lanes, load_masked, store_masked

_NEVER = -3e38
_FACTS = 4
_SMALL = 1 << 12  # logits that one thread visits sooner than two


def softmax_gradient(
    logits: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Facts (rows, 4) and the gradient (rows, vocabulary) of the sum of weighted losses at the logits.

    With z the logits less their largest: the target's z, the sum of exp(z), the sum of z exp(z), and 1 where
    the target is the first of the largest. The logits' memory is taken over where XLA may.
    """
    shapes = [
        jax.ShapeDtypeStruct(shape, jnp.float32)  # type: ignore[no-untyped-call]
        for shape in ((logits.shape[0], _FACTS), logits.shape)
    ]
    call = jax.ffi.ffi_call(register(_KERNEL), shapes, input_output_aliases={0: 1})
    facts, gradient = call(logits, targets, weights)
    return facts, gradient


def _row(emit: Emitter, row: Value, _following: Value, work: Work) -> None:
    build = emit.build
    logits, targets, weights = work.operands
    columns = work.sizes[1]
    line = emit.address(logits, build.mul(build.mul(row, columns), whole(4)))
    target = build.sext(emit.load(targets, build.mul(row, whole(4)), I32), whole(0).type)
    weight = emit.load(weights, build.mul(row, whole(4)), F32)
    lanes = vector(I32)(list(range(LANES)))
    target_place = build.mul(target, whole(4))

    def place(column: Value) -> Value:
        return emit.address(line, build.mul(column, whole(4)))

    def few(column: Value) -> Value:
        return first_lanes(emit, build.sub(columns, column))

    def logits_from(column: Value) -> Value:
        return build.select(few(column), load_masked(emit, place(column), few(column)), lanes_of(_NEVER))

    def highest(column: Value, top: list[Value]) -> list[Value]:
        return [larger_of(emit, logits_from(column), top[0])]

    tops = emit.loop(whole(0), columns, LANES, [lanes_of(_NEVER)], highest)
    top = emit.splat(largest(emit, tops[0]))
    own = build.fsub(emit.load(line, target_place, F32), build.extract_element(top, I32(0)))

    def grow(column: Value, sums: list[Value]) -> list[Value]:
        summed, weighted, first = sums
        z = build.fsub(logits_from(column), top)
        share = exp_of_negative(emit, z)
        store_masked(emit, share, place(column), few(column))
        numbered = build.add(lanes, emit.splat(build.trunc(column, I32)))
        is_top = build.and_(
            build.fcmp_ordered("==", z, lanes_of(0.0)), build.icmp_signed("<", numbered, first)
        )
        bounded = build.select(few(column), z, lanes_of(0.0))
        return [
            build.fadd(summed, share),
            emit.fma(bounded, share, weighted),
            build.select(is_top, numbered, first),
        ]

    zero, most = lanes_of(0.0), vector(I32)([2**31 - 1] * LANES)
    summed, weighted, first = emit.loop(whole(0), columns, LANES, [zero, zero, most], grow)
    smallest = emit.declare("llvm.vector.reduce.smin.v16i32", [vector(I32)], I32)
    hit = build.icmp_signed("==", build.sext(build.call(smallest, [first]), whole(0).type), target)
    sum_of_all = total(emit, summed)
    factor = emit.splat(build.fdiv(weight, sum_of_all))

    def scale(column: Value, _: list[Value]) -> None:
        share = load_masked(emit, place(column), few(column))
        store_masked(emit, build.fmul(share, factor), place(column), few(column))

    emit.loop(whole(0), columns, LANES, [], scale)
    emit.store(build.fsub(emit.load(line, target_place, F32), weight), line, target_place)
    facts = emit.address(work.results[0], build.mul(row, whole(4 * _FACTS)))
    hits = build.select(hit, F32(1.0), F32(0.0))
    for index, value in enumerate((own, sum_of_all, total(emit, weighted), hits)):
        emit.store(value, facts, 4 * index)


_KERNEL = Kernel(
    "tunix_rt_softmax_gradient",
    operands=3,
    sizes=((0, 0), (0, 1)),
    counted=None,
    chunks=lambda _emit, sizes, _threads: sizes[0],
    body=_row,
    small=lambda emit, sizes: emit.build.icmp_signed("<", emit.build.mul(sizes[0], sizes[1]), whole(_SMALL)),
    early=False,
)
