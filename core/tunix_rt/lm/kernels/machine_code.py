"""The compiler of kernels; what it has made is kept on disk beside JAX's compiled programs."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import jax
import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

_DIGEST_BYTES = 32
_engines: list[Any] = []  # the code lives as long as the process


def compile_module(module: ir.Module, name: str) -> int:
    """The address of the function `name` after compilation for this machine.

    Where JAX keeps compiled programs on disk, the machine code is read from there if a process has made it.
    """
    module.triple = llvm.get_default_triple()
    text = str(module)
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    path = Path(folder) / f"kernel-{_key(text)}" if folder and "://" not in folder else None
    code = _read(path) if path else None
    if code is None:
        code = _compiled(text)
        if path:
            _write(path, code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _new_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    address: int = engine.get_function_address(name)
    return address


def _compiled(text: str) -> bytes:
    machine = _new_machine()
    parsed = llvm.parse_assembly(text)
    parsed.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return bytes(machine.emit_object(parsed))


def _key(text: str) -> str:
    """What the machine code depends on: the program, the processor and the compiler."""
    parts = (text, llvm.get_host_cpu_name(), _features(), llvmlite.__version__, str(llvm.llvm_version_info))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def _features() -> str:
    return str(llvm.get_host_cpu_features().flatten())


def _new_machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=_features(), opt=3, jit=True)


def _read(path: Path) -> bytes | None:
    """The code in a file, or None where there is none or not what was written."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    """Keeps the code, whole or not at all; as with JAX's programs, a failure to write is no error."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(hashlib.sha256(code).digest() + code)
        unfinished.replace(path)
