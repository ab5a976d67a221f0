"""XLA's calling convention, and sharing a kernel's work among XLA's threads.

Offsets are those of xla/ffi/api/c_api.h, version 0.3, which jaxlib ships; XLA keeps to them for at least
a year. A handler claims that version when it is registered, and XLA refuses one that it cannot call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
from llvmlite import ir

from tunix_rt.lm.kernels.compiler import machine_code
from tunix_rt.lm.kernels.emitter import I32, I64, POINTER, VOID, Emitter, Value, whole

_FRAME = {"extension": 8, "api": 16, "context": 24, "operands": 72, "results": 112}
_BUFFER = {"data": 24, "dims": 40}
_API = {"schedule": 136, "threads": 144}
_METADATA = {"of_extension": 24, "major": 24, "minor": 28, "traits": 32, "state_type": 40}
_VERSION = (0, 3)
_MOST_THREADS = 64

# A shared piece of work: counters, then what XLA's scheduler and the kernel read.
_NEXT, _DONE, _HOLDERS, _CHUNKS, _THREADS, _REQUEST, _VALUES = 0, 8, 16, 24, 32, 40, 80


class Work(NamedTuple):
    """What a kernel's body sees: the addresses of its operands and results, and the sizes it asked for."""

    operands: Sequence[Value]
    results: Sequence[Value]
    sizes: Sequence[Value]


class Kernel(NamedTuple):
    """A kernel of `operands` buffers that writes its first result; any other is an operand changed in place.

    `sizes` are (operand, axis) pairs that are read when it is called; the first number of the int32 operand
    `counted`, where there is one, comes after them. `chunks(emitter, sizes, threads)` gives the number of
    independent pieces and `body(emitter, chunk, following, work)` the code of one; with `early`, `following`
    is the piece that its thread does next, to be prefetched, and otherwise, or where there is none, `chunk`
    itself. `small(emitter, sizes)` holds where the calling thread does all of it sooner than others would
    wake up.
    """

    name: str
    operands: int
    sizes: Sequence[tuple[int, int]]
    counted: int | None
    chunks: Callable[[Emitter, Sequence[Value], Value], Value]
    body: Callable[[Emitter, Value, Value, Work], None]
    small: Callable[[Emitter, Sequence[Value]], Value]
    early: bool = True


_registered: dict[str, None] = {}


def register(kernel: Kernel) -> str:
    """Compiles a kernel once a process and makes it known to XLA; returns its name."""
    if kernel.name not in _registered:
        address = machine_code(kernel.name, lambda: _module(kernel))
        jax.ffi.register_ffi_target(kernel.name, _capsule(address), platform="cpu")
        _registered[kernel.name] = None
    return kernel.name


@cache
def _new_capsule() -> Any:
    make = ctypes.pythonapi.PyCapsule_New
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return make


def _capsule(address: int) -> object:
    return _new_capsule()(address, b"xla._CUSTOM_CALL_TARGET", None)


def _module(kernel: Kernel) -> ir.Module:
    """Four functions: do chunks; give the shared work up; both, as a task; and the handler."""
    module = ir.Module(kernel.name)
    do = _chunk_loop(module, kernel)
    release = _release(module, kernel.name)
    task = Emitter(module, f"{kernel.name}_task", [POINTER], VOID)
    for function in (do, release):
        task.build.call(function, [task.function.args[0]])
    task.build.ret_void()
    _handler(module, kernel, do, release, task.function)
    return module


def _size_count(kernel: Kernel) -> int:
    return len(kernel.sizes) + (kernel.counted is not None)


def _chunk_loop(module: ir.Module, kernel: Kernel) -> Value:
    """Takes one chunk after another until none is left; `early`, each before it begins the one before."""
    emit = Emitter(module, f"{kernel.name}_chunks", [POINTER], VOID)
    build, shared = emit.build, emit.function.args[0]
    values = [emit.load(shared, _VALUES + 8 * index, POINTER) for index in range(kernel.operands + 1)]
    first_size = _VALUES + 8 * (kernel.operands + 1)
    sizes = [emit.load(shared, first_size + 8 * index, I64) for index in range(_size_count(kernel))]
    chunks = emit.load(shared, _CHUNKS, I64)

    def take() -> Value:
        return build.atomic_rmw("add", emit.address(shared, _NEXT), whole(1), "acq_rel")

    first, begin = take(), build.block
    check, inner, end = (emit.function.append_basic_block(name) for name in ("check", "chunk", "end"))
    build.branch(check)
    build.position_at_end(check)
    chunk = build.phi(I64)
    chunk.add_incoming(first, begin)
    build.cbranch(build.icmp_signed("<", chunk, chunks), inner, end)
    build.position_at_end(inner)
    work = Work(values[:-1], values[-1:], sizes)
    if kernel.early:
        taken = take()
        following = build.select(build.icmp_signed("<", taken, chunks), taken, chunk)
        kernel.body(emit, chunk, following, work)
    else:
        kernel.body(emit, chunk, chunk, work)
        taken = take()
    build.atomic_rmw("add", emit.address(shared, _DONE), whole(1), "release")
    chunk.add_incoming(taken, build.block)
    build.branch(check)
    build.position_at_end(end)
    build.ret_void()
    return emit.function


def _release(module: ir.Module, name: str) -> Value:
    """Gives the shared work up; the last holder frees it, so a thread that comes late finds no ruins."""
    emit = Emitter(module, f"{name}_release", [POINTER], VOID)
    shared = emit.function.args[0]
    holders = emit.build.atomic_rmw("sub", emit.address(shared, _HOLDERS), whole(1), "acq_rel")
    free = emit.declare("free", [POINTER], VOID)
    emit.when(
        emit.build.icmp_signed("==", holders, whole(1)), lambda: emit.build.call(free, [shared]) and None
    )
    emit.build.ret_void()
    return emit.function


def _handler(module: ir.Module, kernel: Kernel, do: Value, release: Value, task: Value) -> None:
    """What XLA calls: tells its version when asked, else shares the work, helps, and waits for the rest."""
    emit = Emitter(module, kernel.name, [POINTER], POINTER)
    build, frame = emit.build, emit.function.args[0]
    extension = emit.load(frame, _FRAME["extension"], I64)
    asked, run = (emit.function.append_basic_block(name) for name in ("asked", "run"))
    build.cbranch(build.icmp_signed("!=", extension, whole(0)), asked, run)
    build.position_at_end(asked)
    _tell_version(emit, build.inttoptr(extension, POINTER))
    build.position_at_end(run)
    api, context = (emit.load(frame, _FRAME[name], POINTER) for name in ("api", "context"))
    operands, results = (emit.load(frame, _FRAME[name], POINTER) for name in ("operands", "results"))
    buffers = [emit.load(operands, 8 * index, POINTER) for index in range(kernel.operands)]
    sizes = [
        emit.load(emit.load(buffers[operand], _BUFFER["dims"], POINTER), 8 * axis, I64)
        for operand, axis in kernel.sizes
    ]
    pointers = [
        emit.load(each, _BUFFER["data"], POINTER) for each in (*buffers, emit.load(results, 0, POINTER))
    ]
    if kernel.counted is not None:
        sizes.append(build.sext(emit.load(pointers[kernel.counted], 0, I32), I64))
    malloc = emit.declare("malloc", [I64], POINTER)
    shared = build.call(malloc, [whole(_VALUES + 8 * (len(pointers) + len(sizes)))])
    for index, value in enumerate((*pointers, *sizes)):
        emit.store(value, shared, _VALUES + 8 * index)
    threads = _thread_count(emit, shared, api, context)
    chunks = kernel.chunks(emit, sizes, threads)
    wanted = build.sub(emit.smaller(emit.smaller(threads, chunks), whole(_MOST_THREADS)), whole(1))
    helpers = build.select(kernel.small(emit, sizes), whole(0), wanted)
    for offset, value in ((_NEXT, whole(0)), (_DONE, whole(0)), (_CHUNKS, chunks)):
        emit.store(value, shared, offset)
    emit.store(build.add(helpers, whole(1)), shared, _HOLDERS)
    for offset, value in ((0, whole(40)), (8, whole(0)), (16, context), (24, task), (32, shared)):
        emit.store(value, shared, _REQUEST + offset)
    schedule, request = emit.load(api, _API["schedule"], POINTER), emit.address(shared, _REQUEST)
    emit.loop(whole(0), helpers, 1, [], lambda *_: emit.call_pointer(schedule, [request], POINTER) and None)
    build.call(do, [shared])
    wait, end = (emit.function.append_basic_block(name) for name in ("wait", "end"))
    build.branch(wait)
    build.position_at_end(wait)
    done = build.load_atomic(emit.address(shared, _DONE), "acquire", 8, typ=I64)
    build.cbranch(build.icmp_signed("<", done, chunks), wait, end)
    build.position_at_end(end)
    build.call(release, [shared])
    build.ret(ir.Constant(POINTER, None))


def _tell_version(emit: Emitter, extension: Value) -> None:
    metadata = emit.load(extension, _METADATA["of_extension"], POINTER)
    for name, number in (("major", _VERSION[0]), ("minor", _VERSION[1]), ("traits", 0)):
        emit.store(ir.Constant(I32, number), metadata, _METADATA[name])
    emit.store(whole(0), metadata, _METADATA["state_type"])
    emit.build.ret(ir.Constant(POINTER, None))


def _thread_count(emit: Emitter, shared: Value, api: Value, context: Value) -> Value:
    """How many threads XLA has, the caller's own included; at least one."""
    emit.store(whole(1), shared, _THREADS)
    target = emit.address(shared, _THREADS)
    for offset, value in ((0, whole(32)), (8, whole(0)), (16, context), (24, target)):
        emit.store(value, shared, _REQUEST + offset)
    ask, request = emit.load(api, _API["threads"], POINTER), emit.address(shared, _REQUEST)
    emit.call_pointer(ask, [request], POINTER)
    return emit.load(shared, _THREADS, I64)
