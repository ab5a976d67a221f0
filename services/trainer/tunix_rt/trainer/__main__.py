"""Serves the trainer and trains runs until SIGTERM: `python -m tunix_rt.trainer`."""

from __future__ import annotations

import asyncio
import sys

from pydantic import ValidationError

from tunix_rt.rpc.server import serve_until_signal
from tunix_rt.rpc.telemetry import configure_logs, get_logger
from tunix_rt.trainer.server import TrainerServer
from tunix_rt.trainer.settings import Settings
from tunix_rt.trainer.supervisor import run_workers


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    server = TrainerServer(settings)
    async with asyncio.TaskGroup() as group:
        workers = group.create_task(run_workers(settings, stop, server.metrics))

        async def stop_workers() -> None:
            stop.set()
            await asyncio.wait({workers})

        await serve_until_signal(server, on_stop=stop_workers)


def main() -> int:
    """Serves, and returns the exit status."""
    try:
        settings = Settings()
    except ValidationError as error:
        named = (each["loc"][0] if each["loc"] else "slot_devices" for each in error.errors())
        names = ", ".join(f"TUNIX_RT_{str(name).upper()}" for name in named)
        print(f"Set {names}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    configure_logs("trainer", settings.log_level)
    try:
        asyncio.run(_serve(settings))
    except ExceptionGroup as failures:
        get_logger().error("cannot serve", exc_info=failures)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
