"""Serves the registry until SIGTERM: `python -m tunix_rt.registry`."""

from __future__ import annotations

import sys

import uvloop
from pydantic import ValidationError

from tunix_rt.registry.server import RegistryServer
from tunix_rt.registry.settings import Settings
from tunix_rt.rpc.errors import ApiError
from tunix_rt.rpc.server import serve_until_signal
from tunix_rt.rpc.telemetry import configure_logs, get_logger


async def _serve(settings: Settings) -> None:
    await serve_until_signal(RegistryServer(settings))


def main() -> int:
    """Serves, and returns the exit status."""
    try:
        settings = Settings()  # type: ignore[call-arg]
    except ValidationError as error:
        names = ", ".join(f"TUNIX_RT_{str(each['loc'][0]).upper()}" for each in error.errors())
        print(f"Set {names}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    configure_logs("registry", settings.log_level)
    try:
        uvloop.run(_serve(settings))
    except (ApiError, RuntimeError, ValueError) as error:
        get_logger().error("cannot serve", error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
