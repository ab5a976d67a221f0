"""Machine code is made once and read by later processes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from llvmlite import ir

from tunix_rt.lm.kernels import machine_code
from tunix_rt.lm.kernels.emitter import I64, Emitter, whole
from tunix_rt.lm.kernels.machine_code import compile_module


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "programs"))
    yield tmp_path / "programs"
    jax.config.update("jax_compilation_cache_dir", before)


def add(number: int) -> int:
    """40 and a number, added by code that was compiled for it."""
    module = ir.Module("sum")
    emit = Emitter(module, "add", [I64], I64)
    emit.build.ret(emit.build.add(emit.function.args[0], whole(number)))
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(compile_module(module, "add"))(40)


def test_code_is_kept_and_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert add(2) == 42
    assert [path.name[:7] for path in folder.iterdir()] == ["kernel-"]
    monkeypatch.delattr(machine_code, "_compiled")  # nothing is compiled from here on
    assert add(2) == 42


def test_another_program_has_other_code(folder: Path) -> None:
    assert (add(2), add(3)) == (42, 43)
    assert len(list(folder.iterdir())) == 2


def test_damaged_code_is_made_again(folder: Path) -> None:
    add(2)
    (kept,) = folder.iterdir()
    whole_file = kept.read_bytes()
    kept.write_bytes(whole_file[:-1])
    assert add(2) == 42
    assert kept.read_bytes() == whole_file


def test_a_folder_that_cannot_be_written_keeps_nothing(folder: Path) -> None:
    folder.write_text("a file")
    assert add(2) == 42
