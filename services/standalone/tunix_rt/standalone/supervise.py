"""Runs a stack in the background: `python -m tunix_rt.standalone.supervise STATE [--port N] …`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import traceback
from pathlib import Path

from tunix_rt.standalone.plan import Options, PortTakenError
from tunix_rt.standalone.postgres import PostgresError
from tunix_rt.standalone.stack import Stack, StackError
from tunix_rt.standalone.state import StackRunningError, StateDirectory


def main() -> int:
    """Runs until SIGTERM; 0 after a clean stop, 1 if the stack cannot start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--web-port", type=int, required=True)
    parser.add_argument("--web-port-fixed", action="store_true")
    parser.add_argument("--with-parent", action="store_true", help="stop when the starting process ends")
    arguments = parser.parse_args()
    options = Options(arguments.port, arguments.web_port, web_port_fixed=arguments.web_port_fixed)
    parent = os.getppid() if arguments.with_parent else None
    try:
        asyncio.run(_run(StateDirectory.locate(arguments.state), options, parent))
    except (StackError, PortTakenError, PostgresError, StackRunningError):
        traceback.print_exc()
        return 1
    return 0


async def _run(state: StateDirectory, options: Options, parent: int | None) -> None:
    await Stack(state, options).run(parent=parent)


if __name__ == "__main__":
    sys.exit(main())
