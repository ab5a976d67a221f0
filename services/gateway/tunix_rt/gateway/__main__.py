"""Runs the gateway: `python -m tunix_rt.gateway`."""

from __future__ import annotations

import asyncio
import signal

import uvloop

from tunix_rt.gateway.server import Gateway
from tunix_rt.gateway.settings import Settings
from tunix_rt.rpc.telemetry import configure_logs


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    gateway = Gateway(settings)
    await gateway.start()
    try:
        await stopping.wait()
    finally:
        await gateway.stop()


def main() -> None:
    """Reads the settings and serves."""
    settings = Settings()
    configure_logs("gateway", settings.log_level)
    uvloop.run(serve(settings))


if __name__ == "__main__":
    main()
