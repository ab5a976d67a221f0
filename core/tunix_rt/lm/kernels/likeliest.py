"""The place of the highest number of each row."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tunix_rt.lm.kernels.custom_call import Kernel, Work, register
from tunix_rt.lm.kernels.emitter import F32, I32, LANES, Emitter, Value, vector, whole
from tunix_rt.lm.kernels.matmul import every_row

_SMALL = 1 << 15  # numbers that one thread compares sooner than two


def likeliest(scores: jax.Array, used: jax.Array | None = None) -> jax.Array:
    """The first place of the highest number of each row, (rows,) int32; scores (rows, 16 or more) float32.

    Rows that are not `used` (see `tiled_matmul`) get 0.
    """
    result = jax.ShapeDtypeStruct(scores.shape[:1], jnp.int32)  # type: ignore[no-untyped-call]
    rows = every_row(scores.shape[0]) if used is None else used
    found: jax.Array = jax.ffi.ffi_call(register(_KERNEL), result)(scores, rows)
    return found


def _body(emit: Emitter, chunk: Value, following: Value, work: Work) -> None:
    del following
    build = emit.build
    _, width, used = work.sizes
    place = build.mul(build.add(chunk, whole(1)), whole(4))
    row = build.sext(emit.load(work.operands[1], place, I32), chunk.type)
    target = build.mul(row, whole(4))
    counts = build.icmp_signed("<", chunk, used)

    def find() -> None:
        start = emit.address(work.operands[0], build.mul(build.mul(row, width), whole(4)))
        emit.store(_highest(emit, start, width), work.results[0], target)

    emit.when(counts, find)
    emit.when(build.not_(counts), lambda: emit.store(I32(0), work.results[0], target))


def _highest(emit: Emitter, start: Value, width: Value) -> Value:
    """Each lane keeps the first of its highest numbers; the last vector overlaps the one before it."""
    build = emit.build
    lanes = vector(I32)(list(range(LANES)))
    last = build.sub(width, whole(LANES))

    def compare(index: Value, carried: list[Value]) -> list[Value]:
        highest, places = carried
        at = emit.smaller(index, last)
        loaded = emit.load(start, build.mul(at, whole(4)), vector(F32), align=4)
        numbers = build.add(lanes, emit.splat(build.trunc(at, I32)))
        higher = build.fcmp_ordered(">", loaded, highest)
        return [build.select(higher, loaded, highest), build.select(higher, numbers, places)]

    first = emit.load(start, 0, vector(F32), align=4)
    highest, places = emit.loop(whole(LANES), width, LANES, [first, lanes], compare)
    top = emit.reduce("fmax", highest)
    never = vector(I32)([2**31 - 1] * LANES)
    equal = build.fcmp_ordered("==", highest, emit.splat(top))
    return emit.reduce("smin", build.select(equal, places, never))


_KERNEL = Kernel(
    "tunix_rt_likeliest",
    operands=2,
    sizes=((0, 0), (0, 1)),  # rows, numbers in each; the used rows come after them
    counted=1,
    chunks=lambda _emit, sizes, _threads: sizes[0],
    body=_body,
    small=lambda emit, sizes: emit.build.icmp_signed("<", emit.build.mul(sizes[1], sizes[2]), whole(_SMALL)),
)
