"""The memory of this process."""

from __future__ import annotations

import ctypes
import sys


def return_free_memory() -> None:
    """Give back to the system what the C library keeps of freed memory, which is much after a compilation."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
