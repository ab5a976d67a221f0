"""The compile cache: its bound, unfinished files, and the code of kernels."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from llvmlite import ir

from tunix_rt.lm.compile_cache import prune_compile_cache, sweep_compile_cache
from tunix_rt.lm.kernels import compiler

USED = {"oldest": 100, "older": 200, "newest": 300}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Three programs of ten bytes each, by the second of their last use."""
    for name, second in USED.items():
        path = tmp_path / f"{name}-cache"
        path.write_bytes(bytes(10))
        os.utime(path, (second, second))
    return tmp_path


def left(cache: Path) -> set[str]:
    return {path.name.removesuffix("-cache") for path in cache.iterdir()}


@pytest.mark.parametrize(
    ("limit", "kept"),
    [(30, {"oldest", "older", "newest"}), (29, {"older", "newest"}), (10, {"newest"}), (9, set())],
)
def test_programs_longest_unused_go_first(cache: Path, limit: int, kept: set[str]) -> None:
    prune_compile_cache(cache, limit)
    assert left(cache) == kept


def test_program_that_was_read_lately_stays(cache: Path) -> None:
    os.utime(cache / "oldest-cache", (400, 100))
    prune_compile_cache(cache, 10)
    assert left(cache) == {"oldest"}


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A whole program, one that ends too early, an empty one, one in work, and half a kernel."""
    program = zlib.compress(bytes(range(256)) * 100)
    for name, content, second in (
        ("whole-cache", program, 100),
        ("cut-cache", program[:-1], 100),
        ("empty-cache", b"", 100),
        ("late-cache", program[:-1], 950),
        ("kernel-1.7.part", b"half", 100),
        ("kernel-1", b"code", 100),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        os.utime(path, (second, second))
    return tmp_path


def test_what_a_killed_process_left_unfinished_is_swept(unfinished: Path) -> None:
    sweep_compile_cache(unfinished, now=1000)
    assert {path.name for path in unfinished.iterdir()} == {"whole-cache", "late-cache", "kernel-1", ".swept"}


def test_what_was_in_work_at_the_last_sweep_is_looked_at_again(unfinished: Path) -> None:
    sweep_compile_cache(unfinished, now=1000)
    sweep_compile_cache(unfinished, now=1020)
    assert not (unfinished / "late-cache").exists()


def test_a_sweep_reads_only_what_has_changed_since_the_last(unfinished: Path) -> None:
    sweep_compile_cache(unfinished, now=1000)
    (unfinished / "whole-cache").write_bytes(b"cut")
    os.utime(unfinished / "whole-cache", (100, 100))
    sweep_compile_cache(unfinished, now=2000)
    assert (unfinished / "whole-cache").exists()


def test_a_program_that_jax_wrote_is_whole(tmp_path: Path) -> None:
    script = f"""if True:
        from tunix_rt.lm.compile_cache import use_compile_cache
        use_compile_cache({str(tmp_path)!r})
        import jax
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.jit(lambda x: x + 1)(1.0)
    """
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    written = {path.name for path in tmp_path.glob("*-cache")}
    assert written
    sweep_compile_cache(tmp_path, now=time.time() + 3600)
    assert {path.name for path in tmp_path.glob("*-cache")} == written


@pytest.fixture
def seven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Calls the code of a function that gives 7, kept in a folder; `make` writes another one."""
    monkeypatch.setattr(compiler, "_folders", [tmp_path])

    def module() -> ir.Module:
        made = ir.Module()
        function = ir.Function(made, ir.FunctionType(ir.IntType(32), []), "seven")
        ir.IRBuilder(function.append_basic_block()).ret(ir.IntType(32)(7))
        return made

    def call(make: Callable[[], ir.Module] = module) -> int:
        return ctypes.CFUNCTYPE(ctypes.c_int32)(compiler.machine_code("seven", make))()

    return call


def never() -> ir.Module:
    raise AssertionError("compiled again")


def test_a_kernel_is_compiled_once(seven: Callable[..., int]) -> None:
    assert seven() == 7
    assert seven(never) == 7


@pytest.mark.parametrize("cut", [1, -1, 40])
def test_a_damaged_kernel_is_compiled_anew(seven: Callable[..., int], tmp_path: Path, cut: int) -> None:
    seven()
    (path,) = tmp_path.iterdir()
    code = path.read_bytes()
    path.write_bytes(code[:cut])
    assert seven() == 7
    assert path.read_bytes() == code


def test_a_kernel_that_cannot_be_kept_is_compiled_all_the_same(
    seven: Callable[..., int], tmp_path: Path
) -> None:
    tmp_path.rmdir()
    with pytest.warns(UserWarning, match="is not kept"):
        assert seven() == 7
