"""Serves and evaluates until SIGTERM: `python -m tunix_rt.evaluator`."""

from __future__ import annotations

import asyncio
import signal
import sys

from pydantic import ValidationError

from tunix_rt.blobs.blobs import BlobsUnavailableError
from tunix_rt.evaluator.server import start
from tunix_rt.evaluator.settings import Settings
from tunix_rt.rpc.telemetry import configure_logs, get_logger


async def _serve(settings: Settings) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    running = await start(settings)
    await stopping.wait()
    await running.stop()


def main() -> int:
    """Serves, and returns the exit status."""
    try:
        settings = Settings()  # type: ignore[call-arg]
    except ValidationError as error:
        names = ", ".join(f"TUNIX_RT_{str(each['loc'][0]).upper()}" for each in error.errors())
        print(f"Set {names}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    configure_logs("evaluator", settings.log_level)
    try:
        asyncio.run(_serve(settings))
    except (BlobsUnavailableError, RuntimeError, ValueError) as error:
        get_logger().error("cannot serve", error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
