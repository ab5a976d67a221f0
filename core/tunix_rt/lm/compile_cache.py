"""Keep compiled programs on disk, so that a new process need not compile them again."""

from pathlib import Path

import jax


def use_compile_cache(directory: Path | str, *, max_bytes: int = 0) -> None:
    """Let JAX read and write its compiled programs in a directory; call it before the first computation.

    Programs beyond `max_bytes` are removed first, those longest unused; 0 keeps all.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    if max_bytes > 0:
        prune_compile_cache(folder, max_bytes)
    jax.config.update("jax_compilation_cache_dir", str(directory))  # type: ignore[no-untyped-call]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)  # type: ignore[no-untyped-call]
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)  # type: ignore[no-untyped-call]


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
