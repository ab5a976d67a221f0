"""Products of strided matrices inside a kernel: pack panels, then multiply them in registers.

The scheme is that of Goto and van de Geijn 2008: a block of the right matrix is copied into a panel that
stays in the second cache while narrow strips of the left one pass by.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from llvmlite import ir

from tunix_rt.lm.kernels.emitter import F32, I32, I64, LANES, POINTER, VOID, Emitter, Value, vector, whole

ROWS = 12  # of the result, held in registers together with
PAIR = 2 * LANES  # columns of it
DEPTH = 640  # of the sum, that one pass goes through
WIDTH = 384  # columns of a panel
_STRIP = 4 * ROWS  # bytes of a step of the left panel
_STEP = 4 * PAIR  # bytes of a step of the right panel
_SLACK = 4096
SCRATCH = _STRIP * (DEPTH + LANES) + _STEP * (DEPTH + LANES) * (WIDTH // PAIR) + 2 * _SLACK


class Matrix(NamedTuple):
    """Where a matrix lies: its first number, and the bytes from one line to the next."""

    start: Value
    line: Value


def product(module: ir.Module, *, left_turned: bool, right_turned: bool) -> Value:
    """A function of (left, line, right, line, result, line, rows, columns, depth, scratch, add).

    result (rows, columns) = left (rows, depth) times right (depth, columns), added to what is there where
    `add` is not 0. A matrix that is turned lies the other way: left (depth, rows), right (columns, depth).
    Lines are counted in bytes; scratch has SCRATCH bytes. Each number is the sum of passes over the depth,
    and a pass sums in order, whatever the number of rows and columns.
    """
    name = f"product_{int(left_turned)}{int(right_turned)}"
    if known := module.globals.get(name):
        return known
    kinds = [POINTER, I64, POINTER, I64, POINTER, I64, I64, I64, I64, POINTER, I64]
    emit = Emitter(module, name, kinds, VOID)
    emit.function.linkage = "internal"
    build = emit.build
    left, right, result = (Matrix(*emit.function.args[2 * index : 2 * index + 2]) for index in range(3))
    rows, columns, depth, scratch, add = emit.function.args[6:]
    passes = build.sdiv(build.add(depth, whole(DEPTH - 1)), whole(DEPTH))
    even = build.sdiv(build.sub(build.add(depth, passes), whole(1)), passes)
    panel = emit.address(scratch, _STRIP * (DEPTH + LANES) + _SLACK)

    def columns_from(column: Value, _: list[Value]) -> None:
        width = emit.smaller(build.sub(columns, column), whole(WIDTH))

        def depth_from(index: Value, _: list[Value]) -> None:
            first = build.mul(index, even)
            deep = emit.smaller(build.sub(depth, first), even)
            summed = build.or_(
                build.icmp_signed(">", index, whole(0)), build.icmp_signed("!=", add, whole(0))
            )
            _pack_right(emit, _part(emit, right, column, first, turned=right_turned), width, deep, panel,
                        turned=right_turned)  # fmt: skip

            def rows_from(row: Value, _: list[Value]) -> None:
                count = emit.smaller(build.sub(rows, row), whole(ROWS))
                strip = _part(emit, left, row, first, turned=not left_turned)
                _pack(emit, strip, count, deep, scratch, step=_STRIP, lanes=ROWS, turned=not left_turned)
                target = Matrix(
                    emit.address(
                        result.start, build.add(build.mul(row, result.line), build.mul(column, whole(4)))
                    ),
                    result.line,
                )
                _multiply(emit, scratch, panel, target, (count, width, deep), summed)

            emit.loop(whole(0), rows, ROWS, [], rows_from)

        emit.loop(whole(0), passes, 1, [], depth_from)

    emit.loop(whole(0), columns, WIDTH, [], columns_from)
    build.ret_void()
    return emit.function


def _part(emit: Emitter, matrix: Matrix, across: Value, deep: Value, *, turned: bool) -> Matrix:
    """The matrix from place `across` of the result's axis and `deep` of the sum's."""
    line, place = (across, deep) if turned else (deep, across)
    offset = emit.build.add(emit.build.mul(line, matrix.line), emit.build.mul(place, whole(4)))
    return Matrix(emit.address(matrix.start, offset), matrix.line)


def _pack_right(
    emit: Emitter, matrix: Matrix, width: Value, deep: Value, panel: Value, *, turned: bool
) -> None:
    """Copies into pairs of vectors, one pair of columns after the other."""
    build = emit.build

    def half(column: Value, _: list[Value]) -> None:
        pair = build.mul(build.sdiv(column, whole(PAIR)), build.mul(deep, whole(_STEP)))
        side = build.mul(build.srem(column, whole(PAIR)), whole(4))
        target = emit.address(panel, build.add(pair, side))
        part = _part(emit, matrix, column, whole(0), turned=turned)
        count = emit.smaller(build.sub(width, column), whole(LANES))
        _pack(emit, part, count, deep, target, step=_STEP, lanes=LANES, turned=turned)

    emit.loop(whole(0), width, LANES, [], half)


def _pack(
    emit: Emitter,
    matrix: Matrix,
    count: Value,
    deep: Value,
    target: Value,
    *,
    step: int,
    lanes: int,
    turned: bool,
) -> None:
    """Copies `count` lines of a matrix so that they lie side by side, `step` bytes for each of `deep`."""
    build = emit.build
    if not turned:
        few = first_lanes(emit, count)

        def copy(index: Value, _: list[Value]) -> None:
            loaded = load_masked(emit, emit.address(matrix.start, build.mul(index, matrix.line)), few)
            emit.store(loaded, target, build.mul(index, whole(step)), align=4)

        emit.loop(whole(0), deep, 1, [], copy)
        return
    last = build.sub(count, whole(1))
    lines = [
        emit.address(matrix.start, build.mul(emit.smaller(whole(index), last), matrix.line))
        for index in range(lanes)
    ]
    zero = vector(F32)([0.0] * LANES)

    def block(first: Value, size: int, few: Value | None) -> None:
        offset = build.mul(first, whole(4))
        square = [
            emit.load(line, offset, vector(F32), align=4)
            if few is None
            else load_masked(emit, emit.address(line, offset), few)
            for line in lines
        ]
        turned_square = _turn(emit, square + [zero] * (LANES - lanes))
        place = emit.address(target, build.mul(first, whole(step)))
        for index in range(size):
            emit.store(turned_square[index], place, index * step, align=4)

    full = build.mul(build.sdiv(deep, whole(LANES)), whole(LANES))
    emit.loop(whole(0), full, LANES, [], lambda first, _: block(first, LANES, None))

    def rest() -> None:
        few = first_lanes(emit, build.sub(deep, full))
        offset = build.mul(full, whole(4))
        square = [load_masked(emit, emit.address(line, offset), few) for line in lines]
        turned_square = _turn(emit, square + [zero] * (LANES - lanes))
        for index in range(LANES):
            place = build.add(full, whole(index))
            offset = build.mul(place, whole(step))
            store = partial(emit.store, turned_square[index], target, offset, align=4)
            emit.when(build.icmp_signed("<", place, deep), store)

    emit.when(build.icmp_signed("<", full, deep), rest)


def _turn(emit: Emitter, square: list[Value]) -> list[Value]:
    """The columns of 16 vectors of 16 numbers."""
    for distance in (1, 2, 4, 8):
        lower = [lane if not lane & distance else LANES + lane - distance for lane in range(LANES)]
        upper = [lane + distance if not lane & distance else LANES + lane for lane in range(LANES)]
        new = list(square)
        for index in range(LANES):
            if not index & distance:
                a, b = square[index], square[index + distance]
                new[index] = _shuffle(emit, a, b, lower)
                new[index + distance] = _shuffle(emit, a, b, upper)
        square = new
    return square


def _shuffle(emit: Emitter, a: Value, b: Value, lanes: list[int]) -> Value:
    return emit.build.shuffle_vector(a, b, ir.Constant(vector(I32), lanes))


def _multiply(
    emit: Emitter,
    strip: Value,
    panel: Value,
    result: Matrix,
    extent: tuple[Value, Value, Value],
    summed: Value,
) -> None:
    """All pairs of columns of a panel for one strip of rows."""
    build = emit.build
    count, width, deep = extent

    def pair(column: Value, _: list[Value]) -> None:
        right = emit.address(panel, build.mul(build.sdiv(column, whole(PAIR)), build.mul(deep, whole(_STEP))))

        def step(index: Value, sums: list[Value]) -> list[Value]:
            b = [
                emit.load(
                    right,
                    build.add(build.mul(index, whole(_STEP)), whole(4 * LANES * half)),
                    vector(F32),
                    align=4,
                )
                for half in (0, 1)
            ]
            place = emit.address(strip, build.mul(index, whole(_STRIP)))
            new = []
            for row in range(ROWS):
                value = emit.splat(emit.load(place, 4 * row, F32))
                new += [emit.fma(value, each, sums[2 * row + half]) for half, each in enumerate(b)]
            return new

        sums = emit.loop(whole(0), deep, 1, [vector(F32)([0.0] * LANES)] * (2 * ROWS), step)
        target = Matrix(emit.address(result.start, build.mul(column, whole(4))), result.line)
        left = build.sub(width, column)
        fits = build.and_(
            build.icmp_signed(">=", left, whole(PAIR)), build.icmp_signed(">=", count, whole(ROWS))
        )
        alone = build.not_(summed)
        emit.when(build.and_(fits, alone), lambda: _store_tile(emit, sums, target, add=False))
        emit.when(build.and_(fits, summed), lambda: _store_tile(emit, sums, target, add=True))
        emit.when(build.not_(fits), lambda: _store_part(emit, sums, target, count, left, summed))

    emit.loop(whole(0), width, PAIR, [], pair)


def _store_tile(emit: Emitter, sums: list[Value], target: Matrix, *, add: bool) -> None:
    for row in range(ROWS):
        line = emit.address(target.start, emit.build.mul(whole(row), target.line))
        for half in (0, 1):
            value = sums[2 * row + half]
            if add:
                value = emit.build.fadd(value, emit.load(line, 4 * LANES * half, vector(F32), align=4))
            emit.store(value, line, 4 * LANES * half, align=4)


def _store_part(
    emit: Emitter, sums: list[Value], target: Matrix, count: Value, left: Value, summed: Value
) -> None:
    """Writes only the rows and columns that the result has."""
    build = emit.build
    masks = [first_lanes(emit, build.sub(left, whole(LANES * half))) for half in (0, 1)]
    zero = vector(F32)([0.0] * LANES)
    for row in range(ROWS):
        line = emit.address(target.start, build.mul(whole(row), target.line))

        def store(row: int = row, line: Value = line) -> None:
            for half, mask in enumerate(masks):
                place = emit.address(line, 4 * LANES * half)
                old = load_masked(emit, place, build.and_(mask, _all(emit, summed)))
                value = build.fadd(sums[2 * row + half], build.select(_all(emit, summed), old, zero))
                store_masked(emit, value, place, mask)

        emit.when(build.icmp_signed("<", whole(row), count), store)


def _all(emit: Emitter, condition: Value) -> Value:
    return emit.build.icmp_signed("!=", emit.splat(emit.build.zext(condition, I32)), vector(I32)([0] * LANES))


def first_lanes(emit: Emitter, count: Value) -> Value:
    """A mask of the first `count` lanes; none where it is 0 or less, all where it is 16 or more."""
    lanes = vector(I32)(list(range(LANES)))
    return emit.build.icmp_signed("<", lanes, emit.splat(emit.build.trunc(count, I32)))


def load_masked(emit: Emitter, place: Value, mask: Value) -> Value:
    """The numbers of the mask's lanes, 0 in the others, which are not read."""
    kind = vector(F32)
    load = emit.declare("llvm.masked.load.v16f32.p0", [POINTER, I32, mask.type, kind], kind)
    return emit.build.call(load, [place, ir.Constant(I32, 4), mask, kind([0.0] * LANES)])


def store_masked(emit: Emitter, values: Value, place: Value, mask: Value) -> None:
    """Writes the numbers of the mask's lanes."""
    store = emit.declare("llvm.masked.store.v16f32.p0", [values.type, POINTER, I32, mask.type], VOID)
    emit.build.call(store, [values, place, ir.Constant(I32, 4), mask])
