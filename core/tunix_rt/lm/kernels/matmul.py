"""Products of activations with a matrix in tiles of 16 outputs, for any number of rows.

Every output is the sum over the inputs in their order, whatever the number of rows, their company and
the number of threads: the result for a row never depends on its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from tunix_rt.lm.kernels.custom_call import Kernel, Work, register
from tunix_rt.lm.kernels.emitter import F32, I8, I32, LANES, Emitter, Value, vector, whole

TILE = LANES
_GROUP = 4  # tiles that belong to one chunk at least
_BLOCKS = ((12, 2), (8, 2), (4, 4), (2, 4), (1, 4))  # rows and tiles that are held in registers together
_SIZES = ((0, 0), (0, 1), (1, 0))  # rows, inputs, tiles
_SMALL = 1 << 17  # multiplications that one thread does sooner than two


def tiled_matmul(x: jax.Array, tiles: jax.Array, scales: jax.Array | None = None) -> jax.Array:
    """x (rows, inputs) times the matrix of `tiles` (T, inputs, 16): (rows, 16 T), float32.

    Tiles are float32, or int8 with a scale (16 T,) for each output.
    """
    result = jax.ShapeDtypeStruct((x.shape[0], TILE * tiles.shape[0]), jnp.float32)  # type: ignore[no-untyped-call]
    name = register(_FLOAT if scales is None else _INT8)
    operands = (x, tiles) if scales is None else (x, tiles, scales)
    made: jax.Array = jax.ffi.ffi_call(name, result)(*operands)
    return made


def _chunks(emit: Emitter, sizes: Sequence[Value], threads: Value) -> Value:
    del threads
    return emit.build.sdiv(emit.build.add(sizes[2], whole(_GROUP - 1)), whole(_GROUP))


def _small(emit: Emitter, sizes: Sequence[Value]) -> Value:
    rows, inputs, tiles = sizes
    work = emit.build.mul(emit.build.mul(rows, inputs), emit.build.mul(tiles, whole(TILE)))
    return emit.build.icmp_signed("<", work, whole(_SMALL))


def _body(emit: Emitter, chunk: Value, work: Work, *, weight: Value) -> None:
    """A group of tiles for all rows, in blocks of rows from the largest down."""
    build = emit.build
    rows, _, tiles = work.sizes
    first = build.mul(chunk, whole(_GROUP))
    last = emit.smaller(build.add(first, whole(_GROUP)), tiles)
    whole_group = build.icmp_signed("==", build.sub(last, first), whole(_GROUP))
    start: Value = whole(0)
    for size, together in _BLOCKS:
        stop = build.add(start, build.mul(build.sdiv(build.sub(rows, start), whole(size)), whole(size)))

        def block(row: Value, _: list[Value], size: int = size, together: int = together) -> None:
            def group() -> None:
                for offset in range(0, _GROUP, together):
                    _block(emit, work, row, build.add(first, whole(offset)), size, together, weight)

            def rest() -> None:
                emit.loop(first, last, 1, [], lambda tile, _: _block(emit, work, row, tile, size, 1, weight))

            emit.when(whole_group, group)
            emit.when(build.not_(whole_group), rest)

        emit.loop(start, stop, size, [], block)
        start = stop


def _block(emit: Emitter, work: Work, row: Value, tile: Value, rows: int, tiles: int, weight: Value) -> None:
    """The outputs of some tiles for some rows, held in registers while the inputs pass by."""
    build = emit.build
    _, inputs, all_tiles = work.sizes
    x, matrix = work.operands[:2]
    width = 1 if weight is I8 else 4
    row_bytes = build.mul(inputs, whole(4))
    tile_bytes = build.mul(inputs, whole(TILE * width))
    activations = [
        emit.address(x, build.mul(build.add(row, whole(index)), row_bytes)) for index in range(rows)
    ]
    weights = [
        emit.address(matrix, build.mul(build.add(tile, whole(index)), tile_bytes)) for index in range(tiles)
    ]

    def step(index: Value, sums: list[Value]) -> list[Value]:
        offset = build.mul(index, whole(TILE * width))
        loaded = [_floats(emit, each, offset, weight) for each in weights]
        place = build.mul(index, whole(4))
        new = []
        for at, activation in enumerate(activations):
            value = emit.splat(emit.load(activation, place, F32))
            new += [emit.fma(value, loaded[t], sums[at * tiles + t]) for t in range(tiles)]
        return new

    zero = vector(F32)([0.0] * TILE)
    sums = emit.loop(whole(0), inputs, 1, [zero] * (rows * tiles), step)
    output_bytes = build.mul(all_tiles, whole(TILE * 4))
    for at in range(rows):
        target = emit.address(work.results[0], build.mul(build.add(row, whole(at)), output_bytes))
        for t in range(tiles):
            place = build.mul(build.add(tile, whole(t)), whole(TILE * 4))
            total = sums[at * tiles + t]
            if weight is I8:
                total = build.fmul(total, emit.load(work.operands[2], place, vector(F32), align=4))
            emit.store(total, target, place, align=4)


def _floats(emit: Emitter, matrix: Value, offset: Value, weight: Value) -> Value:
    """The weights of 16 outputs for one input, as floats."""
    loaded = emit.load(matrix, offset, vector(weight), align=1 if weight is I8 else 4)
    if weight is not I8:
        return loaded
    return emit.build.sitofp(emit.build.sext(loaded, vector(I32)), vector(F32))


_FLOAT = Kernel("tunix_rt_tiled_matmul", 2, _SIZES, _chunks, partial(_body, weight=F32), _small)
_INT8 = Kernel("tunix_rt_tiled_matmul_int8", 3, _SIZES, _chunks, partial(_body, weight=I8), _small)
