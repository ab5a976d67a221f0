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
_MOST_ROWS = 12  # that are held in registers together, with two tiles
_FEW_ROWS = (
    8  # up to so many are one block, and chunks have four tiles: enough of memory is under way at once
)
_SUMS = 24  # that registers hold
_SIZES = ((0, 0), (0, 1), (1, 0))  # all rows, inputs, tiles; the used rows come after them
_SMALL = 1 << 17  # multiplications that one thread does sooner than two


def every_row(rows: int) -> jax.Array:
    """Names all rows as used: their number, then their indices."""
    return jnp.concatenate([jnp.full(1, rows, jnp.int32), jnp.arange(rows, dtype=jnp.int32)])


def tiled_matmul(
    x: jax.Array, tiles: jax.Array, scales: jax.Array | None = None, used: jax.Array | None = None
) -> jax.Array:
    """x (rows, inputs) times the matrix of `tiles` (T, inputs, 16): (rows, 16 T), float32.

    Tiles are float32, or int8 with a scale (16 T,) for each output. `used` (1 + rows,) int32 is a number of
    rows, then all rows' indices: so many of them are computed, the others are 0. By default all are.
    """
    rows = x.shape[0]
    result = jax.ShapeDtypeStruct((rows, TILE * tiles.shape[0]), jnp.float32)  # type: ignore[no-untyped-call]
    name = register(_FLOAT if scales is None else _INT8)
    operands = (x, tiles, every_row(rows) if used is None else used)
    made: jax.Array = jax.ffi.ffi_call(name, result)(*operands, *(() if scales is None else (scales,)))
    return made


def _together(emit: Emitter, used: Value) -> Value:
    """How many tiles a chunk has."""
    return emit.build.select(emit.build.icmp_signed("<=", used, whole(_FEW_ROWS)), whole(4), whole(2))


def _chunks(emit: Emitter, sizes: Sequence[Value], threads: Value) -> Value:
    del threads
    return _ratio_up(emit, sizes[2], _together(emit, sizes[3]))


def _small(emit: Emitter, sizes: Sequence[Value]) -> Value:
    _, inputs, tiles, used = sizes
    work = emit.build.mul(emit.build.mul(used, inputs), emit.build.mul(tiles, whole(TILE)))
    return emit.build.icmp_signed("<", work, whole(_SMALL))


def _body(emit: Emitter, chunk: Value, following: Value, work: Work, *, weight: Value) -> None:
    """A chunk's tiles for all rows: the used ones in blocks of nearly equal size, zeros for the others."""
    build = emit.build
    rows, _, _, used = work.sizes
    blocks = _ratio_up(emit, used, whole(_MOST_ROWS))
    least = build.sdiv(used, emit.larger(blocks, whole(1)))
    larger = build.sub(used, build.mul(least, blocks))  # so many blocks have a row more

    def block(index: Value, _: list[Value]) -> None:
        start = build.add(build.mul(index, least), emit.smaller(index, larger))
        size = build.add(least, build.zext(build.icmp_signed("<", index, larger), index.type))
        for number in range(_MOST_ROWS // 2, _MOST_ROWS + 1):
            ahead = (following, index, blocks)
            emit.when(
                build.icmp_signed("==", size, whole(number)),
                partial(_block, emit, work, start, build.mul(chunk, whole(2)), number, 2, weight, ahead),
            )

    def many() -> None:
        emit.loop(whole(0), blocks, 1, [], block)

    def few() -> None:
        for number in range(1, _FEW_ROWS + 1):
            emit.when(build.icmp_signed("==", used, whole(number)), partial(few_rows, number))

    def few_rows(number: int) -> None:
        tiles = 4 if 4 * number <= _SUMS else 2
        for offset in range(0, 4, tiles):
            first = build.add(build.mul(chunk, whole(4)), whole(offset))
            _block(emit, work, whole(0), first, number, tiles, weight)

    is_few = build.icmp_signed("<=", used, whole(_FEW_ROWS))
    emit.when(is_few, few)
    emit.when(build.not_(is_few), many)
    emit.loop(used, rows, 1, [], lambda index, _: _clear(emit, work, index, chunk))


def _ratio_up(emit: Emitter, value: Value, by: Value) -> Value:
    return emit.build.sdiv(emit.build.add(value, emit.build.sub(by, whole(1))), by)


def _tiles_from(emit: Emitter, work: Work, first: Value, count: int) -> list[Value]:
    """The numbers of some tiles; the last tile stands for those past the end."""
    build, last = emit.build, emit.build.sub(work.sizes[2], whole(1))
    return [emit.smaller(build.add(first, whole(index)), last) for index in range(count)]


def _row(emit: Emitter, work: Work, index: Value) -> Value:
    """The row that stands at a place of the list of rows."""
    place = emit.build.mul(emit.build.add(index, whole(1)), whole(4))
    return emit.build.sext(emit.load(work.operands[2], place, I32), index.type)


def _clear(emit: Emitter, work: Work, index: Value, chunk: Value) -> None:
    build = emit.build
    together = _together(emit, work.sizes[3])
    row_start = build.mul(_row(emit, work, index), work.sizes[2])
    first = build.mul(chunk, together)
    stop = emit.smaller(build.add(first, together), work.sizes[2])
    zero = vector(F32)([0.0] * TILE)

    def clear(tile: Value, _: list[Value]) -> None:
        emit.store(zero, work.results[0], build.mul(build.add(row_start, tile), whole(TILE * 4)), align=4)

    emit.loop(first, stop, 1, [], clear)


def _block(
    emit: Emitter,
    work: Work,
    start: Value,
    first: Value,
    rows: int,
    tiles: int,
    weight: Value,
    ahead: tuple[Value, Value, Value] | None = None,
) -> None:
    """The outputs of tiles from `first` on for the rows from a place of their list on, held in registers.

    `ahead` is the thread's next chunk, the number of the block, and that of all blocks, each of which
    brings a part of the next chunk nearer.
    """
    build = emit.build
    _, inputs, all_tiles, _ = work.sizes
    x, matrix = work.operands[:2]
    width = 1 if weight is I8 else 4
    row_bytes = build.mul(inputs, whole(4))
    tile_bytes = build.mul(inputs, whole(TILE * width))
    row_numbers = [_row(emit, work, build.add(start, whole(index))) for index in range(rows)]
    tile_numbers = _tiles_from(emit, work, first, tiles)
    activations = [emit.address(x, build.mul(row, row_bytes)) for row in row_numbers]
    weights = [emit.address(matrix, build.mul(tile, tile_bytes)) for tile in tile_numbers]
    pace = distant = whole(0)
    if ahead:
        following, number, blocks = ahead
        spread = build.sdiv(whole(tiles * TILE * width), blocks)
        pace = build.select(build.icmp_signed("==", blocks, whole(1)), whole(0), spread)
        passed = build.mul(build.mul(number, inputs), pace)
        distant = emit.address(
            matrix, build.add(build.mul(build.mul(following, whole(tiles)), tile_bytes), passed)
        )

    def step(index: Value, sums: list[Value]) -> list[Value]:
        offset = build.mul(index, whole(TILE * width))
        loaded = [_floats(emit, each, offset, weight) for each in weights]
        if ahead:
            emit.prefetch(distant, build.mul(index, pace))
        place = build.mul(index, whole(4))
        new = []
        for row, activation in enumerate(activations):
            value = emit.splat(emit.load(activation, place, F32))
            new += [emit.fma(value, loaded[tile], sums[row * tiles + tile]) for tile in range(tiles)]
        return new

    zero = vector(F32)([0.0] * TILE)
    sums = emit.loop(whole(0), inputs, 1, [zero] * (rows * tiles), step)
    output_bytes = build.mul(all_tiles, whole(TILE * 4))
    for row in range(rows):
        target = emit.address(work.results[0], build.mul(row_numbers[row], output_bytes))
        for tile in range(tiles):
            place = build.mul(tile_numbers[tile], whole(TILE * 4))
            total = sums[row * tiles + tile]
            if weight is I8:
                total = build.fmul(total, emit.load(work.operands[3], place, vector(F32), align=4))
            emit.store(total, target, place, align=4)


def _floats(emit: Emitter, matrix: Value, offset: Value, weight: Value) -> Value:
    """The weights of 16 outputs for one input, as floats."""
    loaded = emit.load(matrix, offset, vector(weight), align=1 if weight is I8 else 4)
    if weight is not I8:
        return loaded
    return emit.build.sitofp(emit.build.sext(loaded, vector(I32)), vector(F32))


_FLOAT = Kernel("tunix_rt_tiled_matmul", 3, _SIZES, 2, _chunks, partial(_body, weight=F32), _small)
_INT8 = Kernel("tunix_rt_tiled_matmul_int8", 4, _SIZES, 2, _chunks, partial(_body, weight=I8), _small)
