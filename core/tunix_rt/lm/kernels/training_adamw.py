"""AdamW in one pass over a parameter: weights and moments change in place, nothing else is kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tunix_rt.lm.kernels.custom_call import Kernel, Work, register
from tunix_rt.lm.kernels.emitter import F32, LANES, Emitter, Value, vector, whole
from tunix_rt.lm.kernels.functions import lanes_of, total
from tunix_rt.lm.kernels.panels import first_lanes, load_masked, store_masked

_PART = 1 << 14  # numbers that one thread changes at a time, and whose squares are summed in order
_SMALL = 1 << 15  # numbers that one thread changes sooner than two
Number = jax.Array | np.ndarray | np.float32 | float


class Factors(NamedTuple):
    """What a step multiplies and divides by: docs/training.md has the formula.

    `gradient` is the factor of clipping, `mean` and `square` the moments' decays, `own` what is left to 1 of
    each, `mean_share` and `square_share` the corrections for their start.
    """

    rate: Number
    gradient: Number
    mean: Number
    mean_own: Number
    mean_share: Number
    square: Number
    square_own: Number
    square_share: Number
    epsilon: Number
    decay: Number


def change(
    weight: jax.Array, gradient: jax.Array, mean: jax.Array, square: jax.Array, *, factors: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The next weight, mean and square, and the sum of the squares of the update before its rate, ().

    Arrays of one shape; factors are a stack of `Factors`. The memory of the first, third and fourth is taken
    over where XLA may. They are not flattened before, since XLA copies what it has reshaped.
    """
    parts = -(-weight.size // _PART)
    shapes = [
        jax.ShapeDtypeStruct(shape, jnp.float32)  # type: ignore[no-untyped-call]
        for shape in ((parts,), *[weight.shape] * 3)
    ]
    kernel = register(_kernel(weight.ndim))
    call = jax.ffi.ffi_call(kernel, shapes, input_output_aliases={0: 1, 2: 2, 3: 3})
    squares, weight, mean, square = call(weight, gradient, mean, square, factors)
    return weight, mean, square, jnp.sum(squares)


def _part(emit: Emitter, part: Value, _following: Value, work: Work) -> None:
    build = emit.build
    places, factors = work.operands[:4], work.operands[4]
    scalars = Factors(
        *(emit.splat(emit.load(factors, 4 * index, F32)) for index in range(len(Factors._fields)))
    )
    first = build.mul(part, whole(_PART))
    stop = emit.smaller(build.add(first, whole(_PART)), _count(emit, work.sizes))
    full = build.mul(build.sdiv(stop, whole(LANES)), whole(LANES))

    def of_all(index: Value, sums: list[Value]) -> list[Value]:
        offset = build.mul(index, whole(4))
        loaded = [emit.load(place, offset, vector(F32), align=4) for place in places]
        *made, update = _step(emit, loaded, scalars)
        for value, place in zip(made, (places[0], *places[2:]), strict=True):
            emit.store(value, place, offset, align=4)
        return [emit.fma(update, update, sums[0])]

    def of_few(index: Value, sums: list[Value]) -> list[Value]:
        few = first_lanes(emit, build.sub(stop, index))
        at = [emit.address(place, build.mul(index, whole(4))) for place in places]
        *made, update = _step(emit, [load_masked(emit, place, few) for place in at], scalars)
        for value, place in zip(made, (at[0], *at[2:]), strict=True):
            store_masked(emit, value, place, few)
        counted = build.select(few, update, lanes_of(0.0))
        return [emit.fma(counted, counted, sums[0])]

    sums = emit.loop(first, full, LANES, [lanes_of(0.0)], of_all)
    sums = emit.loop(full, stop, LANES, sums, of_few)
    emit.store(total(emit, sums[0]), work.results[0], build.mul(part, whole(4)))


def _step(emit: Emitter, loaded: Sequence[Value], by: Factors) -> tuple[Value, Value, Value, Value]:
    """Weight, mean and square after the step, and the update."""
    build = emit.build
    weight, gradient, mean, square = loaded
    clipped = build.fmul(gradient, by.gradient)
    mean = emit.fma(clipped, by.mean_own, build.fmul(mean, by.mean))
    square = emit.fma(build.fmul(clipped, clipped), by.square_own, build.fmul(square, by.square))
    root = emit.root(build.fdiv(square, by.square_share))
    update = build.fdiv(build.fdiv(mean, by.mean_share), build.fadd(root, by.epsilon))
    update = emit.fma(weight, by.decay, update)
    return emit.fma(build.fneg(by.rate), update, weight), mean, square, update


def _count(emit: Emitter, sizes: Sequence[Value]) -> Value:
    return reduce(emit.build.mul, sizes)


@cache
def _kernel(axes: int) -> Kernel:
    return Kernel(
        f"tunix_rt_training_adamw_{axes}",
        operands=5,
        sizes=tuple((0, axis) for axis in range(axes)),
        counted=None,
        chunks=lambda emit, sizes, _threads: emit.build.sdiv(
            emit.build.add(_count(emit, sizes), whole(_PART - 1)), whole(_PART)
        ),
        body=_part,
        small=lambda emit, sizes: emit.build.icmp_signed("<", _count(emit, sizes), whole(_SMALL)),
        early=False,
    )
