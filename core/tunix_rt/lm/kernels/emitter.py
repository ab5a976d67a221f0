"""Writing machine code: loops, loads and vectors of LLVM's intermediate language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
F32 = ir.FloatType()
POINTER = ir.PointerType()
VOID = ir.VoidType()
LANES = 16  # floats in the widest vectors; LLVM splits them on smaller machines

Value = Any  # llvmlite carries no types


def whole(value: int) -> Value:
    """A constant of 64 bits."""
    return ir.Constant(I64, value)


def vector(kind: Value) -> Value:
    """The type of LANES numbers."""
    return ir.VectorType(kind, LANES)


class Emitter:
    """Appends instructions to a function. Offsets and positions are in bytes."""

    def __init__(self, module: ir.Module, name: str, arguments: Sequence[Value], result: Value) -> None:
        self.module = module
        self.function = ir.Function(module, ir.FunctionType(result, arguments), name)
        self.build = ir.IRBuilder(self.function.append_basic_block("entry"))

    def declare(self, name: str, arguments: Sequence[Value], result: Value) -> Value:
        """A function of the C library or of LLVM."""
        known = self.module.globals.get(name)
        return known or ir.Function(self.module, ir.FunctionType(result, arguments), name)

    def address(self, base: Value, offset: Value | int) -> Value:
        """The address `offset` bytes after `base`."""
        at = whole(offset) if isinstance(offset, int) else offset
        return self.build.gep(base, [at], source_etype=I8)

    def load(self, base: Value, offset: Value | int, kind: Value, *, align: int | None = None) -> Value:
        """The value of a type `offset` bytes after `base`."""
        return self.build.load(self.address(base, offset), typ=kind, align=align)

    def store(self, value: Value, base: Value, offset: Value | int, *, align: int | None = None) -> None:
        """Writes a value `offset` bytes after `base`."""
        self.build.store(value, self.address(base, offset), align=align)

    def splat(self, value: Value) -> Value:
        """A vector of one number."""
        kind = vector(value.type)
        empty = ir.Constant(kind, ir.Undefined)
        first = self.build.insert_element(empty, value, ir.Constant(I32, 0))
        return self.build.shuffle_vector(first, empty, ir.Constant(vector(I32), [0] * LANES))

    def splat_lane(self, values: Value, lane: int) -> Value:
        """A vector of one of the numbers of a vector."""
        lanes = ir.Constant(vector(I32), [lane] * LANES)
        return self.build.shuffle_vector(values, ir.Constant(values.type, ir.Undefined), lanes)

    def round(self, values: Value) -> Value:
        """The nearest whole numbers, as floats."""
        name = f"llvm.nearbyint.v{LANES}f32"
        return self.build.call(self.declare(name, [values.type], values.type), [values])

    def root(self, values: Value) -> Value:
        """The square roots."""
        name = f"llvm.sqrt.v{LANES}f32"
        return self.build.call(self.declare(name, [values.type], values.type), [values])

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a b + c, rounded once."""
        kind = a.type
        name = f"llvm.fma.v{LANES}f32" if isinstance(kind, ir.VectorType) else "llvm.fma.f32"
        return self.build.call(self.declare(name, [kind] * 3, kind), [a, b, c])

    def reduce(self, kind: str, values: Value) -> Value:
        """The sum (`fadd`), the maximum (`fmax`) or the whole minimum (`smin`) of LANES numbers."""
        element = values.type.element
        name = f"llvm.vector.reduce.{kind}.v{LANES}{'i32' if element is I32 else 'f32'}"
        if kind != "fadd":
            return self.build.call(self.declare(name, [values.type], element), [values])
        declared = self.declare(name, [F32, values.type], F32)
        return self.build.call(declared, [ir.Constant(F32, 0.0), values], fastmath=("reassoc",))

    def call_pointer(self, target: Value, arguments: Sequence[Value], result: Value) -> Value:
        """Calls the function at an address."""
        kinds = ir.FunctionType(result, [each.type for each in arguments])
        return self.build.call(_Pointer(target, kinds), arguments)

    def prefetch(self, base: Value, offset: Value | int) -> None:
        """Asks for the line at an address to be brought into the second-level cache."""
        kinds = [POINTER, I32, I32, I32]
        function = self.declare("llvm.prefetch.p0", kinds, VOID)
        read, keep, data = (ir.Constant(I32, number) for number in (0, 2, 1))
        self.build.call(function, [self.address(base, offset), read, keep, data])

    def smaller(self, a: Value, b: Value) -> Value:
        """The smaller of two whole numbers."""
        return self.build.select(self.build.icmp_signed("<", a, b), a, b)

    def larger(self, a: Value, b: Value) -> Value:
        """The larger of two whole numbers."""
        return self.build.select(self.build.icmp_signed(">", a, b), a, b)

    def loop(
        self,
        start: Value,
        stop: Value,
        step: int,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value] | None],
    ) -> list[Value]:
        """Runs `body(index, carried)` while index < stop; returns what is carried at the end."""
        build, before = self.build, self.build.block
        head, inner, after = (self.function.append_basic_block(name) for name in ("head", "body", "after"))
        build.branch(head)
        build.position_at_end(head)
        index = build.phi(I64)
        index.add_incoming(start, before)
        values = [build.phi(each.type) for each in carried]
        for value, first in zip(values, carried, strict=True):
            value.add_incoming(first, before)
        build.cbranch(build.icmp_signed("<", index, stop), inner, after)
        build.position_at_end(inner)
        changed = body(index, values) or ()
        index.add_incoming(build.add(index, whole(step)), build.block)
        for value, new in zip(values, changed, strict=True):
            value.add_incoming(new, build.block)
        build.branch(head)
        build.position_at_end(after)
        return values

    def when(self, condition: Value, then: Callable[[], None]) -> None:
        """Does `then` if the condition holds."""
        inner, after = (self.function.append_basic_block(name) for name in ("then", "after"))
        self.build.cbranch(condition, inner, after)
        self.build.position_at_end(inner)
        then()
        self.build.branch(after)
        self.build.position_at_end(after)


class _Pointer:
    """A function whose address is known only when the code runs, as llvmlite's `call` wants it."""

    calling_convention = ""

    def __init__(self, value: Value, function_type: ir.FunctionType) -> None:
        self._value = value
        self.function_type = function_type
        self.type = POINTER

    def get_reference(self) -> str:
        """The name of the value in the text of the program."""
        reference: str = self._value.get_reference()
        return reference
