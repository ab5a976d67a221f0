"""Runs a module that dies with the process that launched it; standard library only.

    python -m tunix_rt.jobs.launch PARENT_PID MODULE [ARGUMENT ...]

The kernel is asked here, in the new process, to kill it when its parent
thread ends, because forking with a Python hook is not safe beside gRPC's threads.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ties this process to its parent, then becomes the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    _die_with_parent(parent)
    del sys.argv[1:3]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _die_with_parent(parent: int) -> None:
    """Asks for SIGKILL at the parent's death; ends at once if the parent is gone already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the process that launched this one is gone")


if __name__ == "__main__":
    main()
