"""Decides what a stack runs: addresses, and the settings of each of the four services."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunix_rt.standalone.service import ServiceSpec
from tunix_rt.standalone.state import StateDirectory

HOST = "127.0.0.1"
GATEWAY_PORT = 50050
WEB_PORT = 8080
SERVICES = ("registry", "trainer", "evaluator", "gateway")


class PortTakenError(Exception):
    """Another program listens on the port that was asked for."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} is taken by another program")
        self.port = port


@dataclass(frozen=True)
class Options:
    """What `up` can be asked for; port 0 means a free one.

    A taken `web_port` gives way to a free one unless `web_port_fixed`.
    """

    port: int = GATEWAY_PORT
    web_port: int = WEB_PORT
    web_port_fixed: bool = False


@dataclass(frozen=True)
class Plan:
    """The addresses of a stack and what to run, in the order of starting."""

    gateway: str
    web: str
    services: tuple[ServiceSpec, ...]


def make_plan(
    state: StateDirectory, options: Options, *, database: str, blobs: str, metrics: str = ""
) -> Plan:
    """Chooses the ports and writes down each service's settings. Raises PortTakenError.

    The services serve metrics at the port of the address `metrics` and at the three after it.
    """
    gateway = f"{HOST}:{check_port(options.port)}"
    try:
        web = f"{HOST}:{check_port(options.web_port)}"
    except PortTakenError:
        if options.web_port_fixed:
            raise
        web = f"{HOST}:{free_port()}"
    addresses = {name: f"{HOST}:{free_port()}" for name in SERVICES[:-1]} | {"gateway": gateway}
    shared = {
        "TUNIX_RT_DATABASE": database,
        "TUNIX_RT_BLOBS": blobs,
        "TUNIX_RT_REGISTRY": addresses["registry"],
        "TUNIX_RT_TRAINER": addresses["trainer"],
        "TUNIX_RT_EVALUATOR": addresses["evaluator"],
        "TUNIX_RT_WEB": web,
        "TUNIX_RT_COMPILE_CACHE": str(state.compile_cache),
    }
    services = tuple(
        ServiceSpec(
            name=name,
            module=f"tunix_rt.{name}",
            address=address,
            environment={
                **shared,
                "TUNIX_RT_LISTEN": address,
                "TUNIX_RT_WORK": str(_made(state.work / name)),
                "TUNIX_RT_METRICS": _port_after(metrics, place),
            },
            log=state.logs / f"{name}.log",
        )
        for place, (name, address) in enumerate(addresses.items())
    )
    return Plan(gateway, web, services)


def _port_after(address: str, places: int) -> str:
    """The address so many ports further; 0, which chooses a free one, and no address stay."""
    host, separator, port = address.rpartition(":")
    return f"{host}:{int(port) + places}" if separator and port.isdigit() and int(port) else address


def external_database(environment: Mapping[str, str]) -> str:
    """The database that the environment names; empty for the embedded one."""
    return environment.get("TUNIX_RT_DATABASE", "")


def blobs_url(environment: Mapping[str, str], state: StateDirectory) -> str:
    """The object store that the environment names, or the folder of the state."""
    return environment.get("TUNIX_RT_BLOBS") or state.blobs.as_uri()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def check_port(wanted: int) -> int:
    """The port itself, or a free one for 0. Raises PortTakenError."""
    if wanted == 0:
        return free_port()
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # a closed stack's TIME_WAIT is no taker
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise PortTakenError(wanted) from error
    return wanted


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
