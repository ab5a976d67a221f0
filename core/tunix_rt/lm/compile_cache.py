"""Keep compiled programs and kernels on disk, so that a new process need not compile them again."""

import os
import time
import zlib
from pathlib import Path

import jax

from tunix_rt.lm.kernels.compiler import keep_code_in

_SWEPT = ".swept"  # its time of change: older files need no look
_PATIENCE = 60.0  # seconds after the last change in which a file may still be written
_BLOCK = 1 << 20


def use_compile_cache(directory: Path | str, *, max_bytes: int = 0) -> None:
    """Let JAX and our kernels read and write what they compile in a directory; call it before the first use.

    Programs beyond `max_bytes` are removed first, those longest unused; 0 keeps all.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    sweep_compile_cache(folder, now=time.time())
    if max_bytes > 0:
        prune_compile_cache(folder, max_bytes)
    keep_code_in(folder)
    jax.config.update("jax_compilation_cache_dir", str(directory))  # type: ignore[no-untyped-call]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)  # type: ignore[no-untyped-call]
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)  # type: ignore[no-untyped-call]


def sweep_compile_cache(directory: Path, *, now: float) -> None:
    """Remove what killed processes have left unfinished, of the files that changed since the last sweep.

    JAX writes its entries in place and never writes one that is there again, so a part of one would be
    compiled anew by every process. `now` is in seconds; files of the last minute may still be written.
    """
    mark, until = directory / _SWEPT, now - _PATIENCE
    since = mark.stat().st_mtime if mark.exists() else 0.0
    for path in directory.iterdir():
        try:
            changed = since <= path.stat().st_mtime < until
            if changed and (path.suffix == ".part" or (path.name.endswith("-cache") and not _whole(path))):
                path.unlink()
        except FileNotFoundError:
            continue  # another process was faster
    mark.touch()
    os.utime(mark, (now, until))


def _whole(path: Path) -> bool:
    """Whether a file is what zlib has compressed, to its end."""
    stream = zlib.decompressobj()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                stream.decompress(block)
    except zlib.error:
        return False
    return stream.eof


def prune_compile_cache(directory: Path, max_bytes: int) -> None:
    """Remove the programs longest unused until those left take at most `max_bytes`.

    Processes may do it at the same time; one that misses a program compiles it. A program's last use is
    the later of its file's times of access and change.
    """
    found: list[tuple[float, int, Path]] = []
    for path in directory.iterdir():
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # another process was faster
        if path.is_file():
            found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    left = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if left <= max_bytes:
            return
        path.unlink(missing_ok=True)
        left -= size
