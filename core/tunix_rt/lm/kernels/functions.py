"""Functions of 16 numbers at a time that kernels share."""

from __future__ import annotations

import math

from llvmlite import ir

from tunix_rt.lm.kernels.emitter import F32, I32, LANES, Emitter, Value, vector

_LOWEST = -87.0  # exp of less is no normal float32
_EXP = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)  # Taylor, on [-ln 2 / 2, ln 2 / 2]
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # Cody and Waite 1980


def lanes_of(value: float) -> Value:
    """A vector of one constant."""
    return vector(F32)([value] * LANES)


def exp_of_negative(emit: Emitter, x: Value) -> Value:
    """exp of numbers that are 0 or less; 0 below -87, relative error about 1e-7."""
    build = emit.build
    tiny = build.fcmp_ordered("<", x, lanes_of(_LOWEST))
    bounded = build.select(tiny, lanes_of(_LOWEST), x)
    rounded = emit.round(build.fmul(bounded, lanes_of(1 / math.log(2))))
    rest = emit.fma(rounded, lanes_of(-_LN2_HIGH), bounded)
    rest = emit.fma(rounded, lanes_of(-_LN2_LOW), rest)
    value = lanes_of(_EXP[0])
    for factor in _EXP[1:]:
        value = emit.fma(value, rest, lanes_of(factor))
    whole_part = build.fptosi(rounded, vector(I32))
    exponent = build.shl(build.add(whole_part, vector(I32)([127] * LANES)), vector(I32)([23] * LANES))
    power = build.bitcast(exponent, vector(F32))
    return build.select(tiny, lanes_of(0.0), build.fmul(value, power))


def larger_of(emit: Emitter, a: Value, b: Value) -> Value:
    """The larger numbers of two vectors; not a number where one of `a` is none."""
    return emit.build.select(emit.build.fcmp_unordered(">", a, b), a, b)


def total(emit: Emitter, x: Value) -> Value:
    """The sum of the numbers of a vector."""
    add = emit.declare(f"llvm.vector.reduce.fadd.v{LANES}f32", [F32, vector(F32)], F32)
    return emit.build.call(add, [ir.Constant(F32, 0.0), x], fastmath=("reassoc",))


def largest(emit: Emitter, x: Value) -> Value:
    """The largest number of a vector."""
    return emit.build.call(emit.declare(f"llvm.vector.reduce.fmax.v{LANES}f32", [vector(F32)], F32), [x])
