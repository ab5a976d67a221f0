"""Keep compiled programs on disk, so that a new process need not compile them again."""

from pathlib import Path

import jax


def use_compile_cache(directory: Path | str) -> None:
    """Let JAX read and write its compiled programs in a directory; call it before the first computation."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(directory))  # type: ignore[no-untyped-call]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)  # type: ignore[no-untyped-call]
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)  # type: ignore[no-untyped-call]
