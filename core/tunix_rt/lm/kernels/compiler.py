"""Machine code of kernels: compiled for this machine, or read as it was compiled before."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

_DIGEST_BYTES = 32
_folders: list[Path] = []  # at most one
_engines: list[Any] = []  # the code lives as long as the process


def keep_code_in(folder: Path) -> None:
    """Write the code of kernels to files of a folder, and read it there, from now on."""
    _folders[:] = [folder]


def machine_code(name: str, make: Callable[[], ir.Module]) -> int:
    """The address of the function `name` in the code of a module; `make` is called where it must be compiled.

    A name stands for the same code as long as the modules of this package are the same.
    """
    if not _folders:
        return _loaded(_compiled(make()), name)
    path = _folders[0] / f"kernel-{_key(name)}"
    code = _read(path)
    if code is None:
        code = _compiled(make())
        _write(path, code)
    return _loaded(code, name)


def _key(name: str) -> str:
    """A digest of all that the code depends on: the modules that write it, the compiler and the processor."""
    return hashlib.sha256(f"{name} {_circumstances()}".encode()).hexdigest()


@cache
def _circumstances() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    llvm_version = ".".join(str(number) for number in llvm.llvm_version_info)
    machine = _machine()
    return " ".join((digest.hexdigest(), llvmlite.__version__, llvm_version, machine.triple, *_processor()))


def _processor() -> tuple[str, str]:
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@cache
def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    processor, features = _processor()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=processor, features=features, opt=3, jit=True)


def _compiled(module: ir.Module) -> bytes:
    machine = _machine()
    module.triple = llvm.get_default_triple()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    code: bytes = machine.emit_object(parsed)
    return code


def _loaded(code: bytes, name: str) -> int:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    address: int = engine.get_function_address(name)
    return address


def _read(path: Path) -> bytes | None:
    """A file's code; nothing if there is none, or its bytes are not those that were written."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    """Write a file whole or not at all; without it, the next process compiles again."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(hashlib.sha256(code).digest() + code)
        part.replace(path)
    except OSError as error:
        warnings.warn(f"{path.name} is not kept for the next process: {error}", stacklevel=2)
