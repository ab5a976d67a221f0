"""The gate of a feed-forward part, silu(gate) times up, and its gradient, each in one sweep over memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from tunix_rt.lm.kernels.custom_call import Kernel, Work, register
from tunix_rt.lm.kernels.emitter import F32, LANES, Emitter, Value, vector, whole
from tunix_rt.lm.kernels.functions import exp_of_negative, lanes_of
from tunix_rt.lm.kernels.panels import first_lanes, load_masked, store_masked

_CHUNK = 1 << 14  # numbers
_SMALL = 1 << 15  # numbers that one thread visits sooner than two


def silu_gate(gate: jax.Array, up: jax.Array) -> jax.Array:
    """silu(gate) times up, both (rows, columns), float32."""
    result = jax.ShapeDtypeStruct(gate.shape, jnp.float32)  # type: ignore[no-untyped-call]
    made: jax.Array = jax.ffi.ffi_call(register(_FORWARD), result)(gate, up)
    return made


def silu_gate_gradient(gate: jax.Array, up: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The gradients at gate and up for dy, whose memory is taken over where XLA may."""
    result = jax.ShapeDtypeStruct(gate.shape, jnp.float32)  # type: ignore[no-untyped-call]
    call = jax.ffi.ffi_call(register(_BACKWARD), [result, result], input_output_aliases={2: 1})
    at_gate, at_up = call(gate, up, dy)
    return at_gate, at_up


Visit = Callable[[Emitter, Work, Value, Value | None], None]


def _sweep(emit: Emitter, chunk: Value, _following: Value, work: Work, *, visit: Visit) -> None:
    """Visits a chunk's numbers, LANES at a time; the last ones by a mask."""
    build = emit.build
    count = build.mul(*work.sizes)
    first = build.mul(chunk, whole(_CHUNK))
    stop = emit.smaller(count, build.add(first, whole(_CHUNK)))
    full = build.mul(build.sdiv(stop, whole(LANES)), whole(LANES))
    emit.loop(first, full, LANES, [], lambda place, _: visit(emit, work, place, None))
    few = first_lanes(emit, build.sub(stop, full))
    emit.when(build.icmp_signed("<", full, stop), lambda: visit(emit, work, full, few))


def _read(emit: Emitter, base: Value, place: Value, few: Value | None) -> Value:
    offset = emit.build.mul(place, whole(4))
    if few is None:
        return emit.load(base, offset, vector(F32), align=4)
    return load_masked(emit, emit.address(base, offset), few)


def _write(emit: Emitter, values: Value, base: Value, place: Value, few: Value | None) -> None:
    offset = emit.build.mul(place, whole(4))
    if few is None:
        emit.store(values, base, offset, align=4)
    else:
        store_masked(emit, values, emit.address(base, offset), few)


def _sigmoid(emit: Emitter, x: Value) -> Value:
    """1 / (1 + exp(-x)), by the exponential of a number that is 0 or less."""
    build = emit.build
    positive = build.fcmp_ordered(">", x, lanes_of(0.0))
    small = exp_of_negative(emit, build.select(positive, build.fsub(lanes_of(0.0), x), x))
    top = build.select(positive, lanes_of(1.0), small)
    return build.fdiv(top, build.fadd(lanes_of(1.0), small))


def _forward(emit: Emitter, work: Work, place: Value, few: Value | None) -> None:
    build = emit.build
    gate, up = (_read(emit, each, place, few) for each in work.operands)
    value = build.fmul(build.fmul(gate, _sigmoid(emit, gate)), up)
    _write(emit, value, work.results[0], place, few)


def _backward(emit: Emitter, work: Work, place: Value, few: Value | None) -> None:
    build = emit.build
    gate, up, dy = (_read(emit, each, place, few) for each in work.operands)
    sigmoid = _sigmoid(emit, gate)
    silu = build.fmul(gate, sigmoid)
    slope = emit.fma(silu, build.fsub(lanes_of(1.0), sigmoid), sigmoid)  # s (1 + g (1 - s))
    _write(emit, build.fmul(build.fmul(dy, up), slope), work.results[0], place, few)
    _write(emit, build.fmul(dy, silu), work.operands[2], place, few)


def _kernel(name: str, operands: int, visit: Visit) -> Kernel:
    def chunks(emit: Emitter, sizes: Sequence[Value], _threads: Value) -> Value:
        count = emit.build.mul(*sizes)
        return emit.build.sdiv(emit.build.add(count, whole(_CHUNK - 1)), whole(_CHUNK))

    return Kernel(
        f"tunix_rt_silu_gate{name}",
        operands,
        sizes=((0, 0), (0, 1)),
        counted=None,
        chunks=chunks,
        body=partial(_sweep, visit=visit),
        small=lambda emit, sizes: emit.build.icmp_signed("<", emit.build.mul(*sizes), whole(_SMALL)),
        early=False,
    )


_FORWARD = _kernel("", 2, _forward)
_BACKWARD = _kernel("_gradient", 3, _backward)
