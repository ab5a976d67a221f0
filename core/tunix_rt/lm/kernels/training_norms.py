"""Normalisation by the root mean square of rows in training, and its gradient, each in one sweep."""

from __future__ import annotations

from functools import cache, partial

import jax
import jax.numpy as jnp

from tunix_rt.lm.kernels.custom_call import Kernel, Work, register
from tunix_rt.lm.kernels.emitter import F32, LANES, Emitter, Value, whole
from tunix_rt.lm.kernels.functions import lanes_of, total
from tunix_rt.lm.kernels.panels import first_lanes, load_masked, store_masked

_ROWS = 64  # of a chunk
_SMALL = 1 << 14  # numbers that one thread visits sooner than two


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """x (rows, size) divided by its root mean square over the last axis, times scale (size,)."""
    result = jax.ShapeDtypeStruct(x.shape, jnp.float32)  # type: ignore[no-untyped-call]
    made: jax.Array = jax.ffi.ffi_call(register(_kernel("rms_norm", eps)), result)(x, scale)
    return made


def rms_norm_gradient(
    x: jax.Array, scale: jax.Array, dy: jax.Array, eps: float
) -> tuple[jax.Array, jax.Array]:
    """The gradients at x and scale for dy, whose memory is taken over where XLA may."""
    parts = (-(-x.shape[0] // _ROWS), x.shape[1])
    results = [jax.ShapeDtypeStruct(each, jnp.float32) for each in (parts, x.shape)]  # type: ignore[no-untyped-call]
    name = register(_kernel("rms_norm_gradient", eps))
    at_scale, at_x = jax.ffi.ffi_call(name, results, input_output_aliases={2: 1})(x, scale, dy)
    return at_x, jnp.sum(at_scale, axis=0)


@cache
def _kernel(name: str, eps: float) -> Kernel:
    body, operands = (_forward, 2) if name == "rms_norm" else (_backward, 3)
    return Kernel(
        f"tunix_rt_{name}_{eps.hex()}",
        operands,
        sizes=((0, 0), (0, 1)),
        counted=None,
        chunks=lambda emit, sizes, _: emit.build.sdiv(
            emit.build.add(sizes[0], whole(_ROWS - 1)), whole(_ROWS)
        ),
        body=partial(body, eps=eps),
        small=lambda emit, sizes: emit.build.icmp_signed("<", emit.build.mul(*sizes), whole(_SMALL)),
        early=False,
    )


class _Rows:
    """Reads and writes rows of numbers, LANES at a time."""

    def __init__(self, emit: Emitter, columns: Value) -> None:
        self.emit, self.columns = emit, columns

    def few(self, column: Value) -> Value:
        return first_lanes(self.emit, self.emit.build.sub(self.columns, column))

    def line(self, base: Value, row: Value) -> Value:
        return self.emit.address(base, self.emit.build.mul(self.emit.build.mul(row, self.columns), whole(4)))

    def read(self, line: Value, column: Value) -> Value:
        place = self.emit.address(line, self.emit.build.mul(column, whole(4)))
        return load_masked(self.emit, place, self.few(column))

    def write(self, values: Value, line: Value, column: Value) -> None:
        place = self.emit.address(line, self.emit.build.mul(column, whole(4)))
        store_masked(self.emit, values, place, self.few(column))


def _inverse(emit: Emitter, squares: Value, columns: Value, eps: float) -> Value:
    """One by the root of the mean of squares and eps."""
    build = emit.build
    mean = build.fdiv(total(emit, squares), build.sitofp(columns, F32))
    root = emit.declare("llvm.sqrt.f32", [F32], F32)
    return build.fdiv(F32(1.0), build.call(root, [build.fadd(mean, F32(eps))]))


def _forward(emit: Emitter, chunk: Value, _following: Value, work: Work, *, eps: float) -> None:
    build = emit.build
    count, columns = work.sizes
    rows = _Rows(emit, columns)
    scale = work.operands[1]

    def row(index: Value, _: list[Value]) -> None:
        x, y = rows.line(work.operands[0], index), rows.line(work.results[0], index)

        def square(column: Value, sums: list[Value]) -> list[Value]:
            value = rows.read(x, column)
            return [emit.fma(value, value, sums[0])]

        squares = emit.loop(whole(0), columns, LANES, [lanes_of(0.0)], square)[0]
        inverse = emit.splat(_inverse(emit, squares, columns, eps))

        def write(column: Value, _: list[Value]) -> None:
            value = build.fmul(build.fmul(rows.read(x, column), inverse), rows.read(scale, column))
            rows.write(value, y, column)

        emit.loop(whole(0), columns, LANES, [], write)

    first = build.mul(chunk, whole(_ROWS))
    emit.loop(first, emit.smaller(count, build.add(first, whole(_ROWS))), 1, [], row)


def _backward(emit: Emitter, chunk: Value, _following: Value, work: Work, *, eps: float) -> None:
    """The rows' gradients at x in the memory of dy, and their sum at the scale as a row of the result."""
    build = emit.build
    count, columns = work.sizes
    rows = _Rows(emit, columns)
    scale, at_scale = work.operands[1], rows.line(work.results[0], chunk)
    emit.loop(whole(0), columns, LANES, [], lambda column, _: rows.write(lanes_of(0.0), at_scale, column))

    def row(index: Value, _: list[Value]) -> None:
        x, dy = (rows.line(work.operands[operand], index) for operand in (0, 2))

        def sums_of(column: Value, sums: list[Value]) -> list[Value]:
            value = rows.read(x, column)
            scaled = build.fmul(rows.read(dy, column), rows.read(scale, column))
            return [emit.fma(value, value, sums[0]), emit.fma(scaled, value, sums[1])]

        squares, along = emit.loop(whole(0), columns, LANES, [lanes_of(0.0)] * 2, sums_of)
        inverse = _inverse(emit, squares, columns, eps)
        mean = build.fdiv(total(emit, along), build.sitofp(columns, F32))
        cube = build.fmul(build.fmul(inverse, inverse), inverse)
        shift, factor = emit.splat(build.fmul(mean, cube)), emit.splat(inverse)

        def write(column: Value, _: list[Value]) -> None:
            value, slope = rows.read(x, column), rows.read(dy, column)
            added = emit.fma(build.fmul(slope, value), factor, rows.read(at_scale, column))
            rows.write(added, at_scale, column)
            scaled = build.fmul(build.fmul(slope, rows.read(scale, column)), factor)
            rows.write(build.fsub(scaled, build.fmul(value, shift)), dy, column)

        emit.loop(whole(0), columns, LANES, [], write)

    first = build.mul(chunk, whole(_ROWS))
    emit.loop(first, emit.smaller(count, build.add(first, whole(_ROWS))), 1, [], row)
