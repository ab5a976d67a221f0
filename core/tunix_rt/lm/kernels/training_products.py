"""The three products of a linear map in training: forward, and the gradients at its input and its matrix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from tunix_rt.lm.kernels.custom_call import Kernel, Work, register
from tunix_rt.lm.kernels.emitter import I64, POINTER, VOID, Emitter, Value, whole
from tunix_rt.lm.kernels.panels import PAIR, ROWS, SCRATCH, WIDTH, product

_HEIGHT = 516  # rows of the result that belong to one chunk at most
_LEAST = 60  # and at least, where there would be fewer chunks than
_CHUNKS = 2
_SMALL = 1 << 18  # multiplications that one thread does sooner than two


def forward(x: jax.Array, weight: jax.Array) -> jax.Array:
    """x (rows, inputs) times the transpose of weight (outputs, inputs): (rows, outputs), float32."""
    return _call(_FORWARD, x, weight, (x.shape[0], weight.shape[0]))


def input_gradient(dy: jax.Array, weight: jax.Array) -> jax.Array:
    """dy (rows, outputs) times weight (outputs, inputs): (rows, inputs), float32."""
    return _call(_INPUT, dy, weight, (dy.shape[0], weight.shape[1]))


def weight_gradient(dy: jax.Array, x: jax.Array) -> jax.Array:
    """The transpose of dy (rows, outputs) times x (rows, inputs): (outputs, inputs), float32."""
    return _call(_WEIGHT, dy, x, (dy.shape[1], x.shape[1]))


def add_weight_gradient(total: jax.Array, dy: jax.Array, x: jax.Array) -> jax.Array:
    """As `weight_gradient`, added to `total`, whose memory is taken over where XLA may."""
    result = jax.ShapeDtypeStruct(total.shape, jnp.float32)  # type: ignore[no-untyped-call]
    call = jax.ffi.ffi_call(register(_ADD_WEIGHT), result, input_output_aliases={2: 0})
    made: jax.Array = call(dy, x, total)
    return made


def _call(kernel: Kernel, left: jax.Array, right: jax.Array, shape: tuple[int, int]) -> jax.Array:
    result = jax.ShapeDtypeStruct(shape, jnp.float32)  # type: ignore[no-untyped-call]
    made: jax.Array = jax.ffi.ffi_call(register(kernel), result)(left, right)
    return made


def _part(emit: Emitter, size: Value, most: int, unit: int) -> Value:
    """The size of equal parts of `size`: a multiple of `unit` that is at most `most`."""
    build = emit.build
    parts = build.sdiv(build.add(size, whole(most - 1)), whole(most))
    units = build.sdiv(build.add(size, whole(unit - 1)), whole(unit))
    return build.mul(build.sdiv(build.sub(build.add(units, parts), whole(1)), parts), whole(unit))


def _grid(emit: Emitter, sizes: Sequence[Value]) -> tuple[Value, Value, Value]:
    """Rows and columns of a chunk, and how many chunks lie side by side."""
    rows, columns, _ = sizes
    build = emit.build
    height, width = _part(emit, rows, _HEIGHT, ROWS), _part(emit, columns, WIDTH, PAIR)
    beside = build.sdiv(build.sub(build.add(columns, width), whole(1)), width)
    wanted = build.mul(build.sdiv(build.mul(rows, beside), whole(_CHUNKS * ROWS)), whole(ROWS))
    height = emit.smaller(height, emit.larger(build.add(wanted, whole(ROWS)), whole(_LEAST)))
    return height, width, beside


def _chunks(emit: Emitter, sizes: Sequence[Value], threads: Value) -> Value:
    del threads
    height, _, beside = _grid(emit, sizes)
    below = emit.build.sdiv(emit.build.sub(emit.build.add(sizes[0], height), whole(1)), height)
    return emit.build.mul(below, beside)


def _small(emit: Emitter, sizes: Sequence[Value]) -> Value:
    rows, columns, depth = sizes
    work = emit.build.mul(emit.build.mul(rows, columns), depth)
    return emit.build.icmp_signed("<", work, whole(_SMALL))


def _body(
    emit: Emitter,
    chunk: Value,
    _following: Value,
    work: Work,
    *,
    left_turned: bool,
    right_turned: bool,
    add: bool,
) -> None:
    """A block of the result."""
    build = emit.build
    rows, columns, depth = work.sizes
    height, width, beside = _grid(emit, work.sizes)
    row, column = build.mul(build.sdiv(chunk, beside), height), build.mul(build.srem(chunk, beside), width)
    left_line = build.mul(rows if left_turned else depth, whole(4))
    right_line = build.mul(depth if right_turned else columns, whole(4))
    line = build.mul(columns, whole(4))
    left = emit.address(work.operands[0], build.mul(row, whole(4) if left_turned else left_line))
    right = emit.address(work.operands[1], build.mul(column, right_line if right_turned else whole(4)))
    result = emit.address(work.results[0], build.add(build.mul(row, line), build.mul(column, whole(4))))
    scratch = build.call(emit.declare("malloc", [I64], POINTER), [whole(SCRATCH)])
    build.call(
        product(emit.module, left_turned=left_turned, right_turned=right_turned),
        [left, left_line, right, right_line, result, line,
         emit.smaller(height, build.sub(rows, row)), emit.smaller(width, build.sub(columns, column)), depth,
         scratch, whole(int(add))],
    )  # fmt: skip
    build.call(emit.declare("free", [POINTER], VOID), [scratch])


def _kernel(
    name: str, sizes: Sequence[tuple[int, int]], *, left_turned: bool, right_turned: bool, add: bool = False
) -> Kernel:
    body = partial(_body, left_turned=left_turned, right_turned=right_turned, add=add)
    return Kernel(
        f"tunix_rt_training_{name}", 3 if add else 2, sizes, None, _chunks, body, _small, early=False
    )


# Sizes: rows, columns and depth.
_FORWARD = _kernel("forward", ((0, 0), (1, 0), (0, 1)), left_turned=False, right_turned=True)
_INPUT = _kernel("input_gradient", ((0, 0), (1, 1), (0, 1)), left_turned=False, right_turned=False)
_WEIGHT = _kernel("weight_gradient", ((0, 1), (1, 1), (0, 0)), left_turned=True, right_turned=False)
_ADD_WEIGHT = _kernel(
    "add_weight_gradient", ((0, 1), (1, 1), (0, 0)), left_turned=True, right_turned=False, add=True
)
