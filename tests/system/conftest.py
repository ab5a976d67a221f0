"""The four services as separate processes, on a real PostgreSQL server and a real S3 server.

This is what docker-compose.yml describes, without an engine.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from tunix_rt.rpc.channel import open_blocking_channel
from tunix_rt.rpc.probe import is_serving
from tunix_rt.v1 import evaluator_service_pb2_grpc as evaluator_grpc
from tunix_rt.v1 import gateway_service_pb2_grpc as gateway_grpc
from tunix_rt.v1 import registry_service_pb2_grpc as registry_grpc
from tunix_rt.v1 import trainer_service_pb2_grpc as trainer_grpc

NAMES = ("registry", "trainer", "evaluator", "gateway")
LEASE_SECONDS = "3"


@dataclass
class Process:
    """One service: started, killed and started again at the same address."""

    name: str
    address: str
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"tunix_rt.{self.name}"],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_serving(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not is_serving(self.address, timeout=1):
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, f"{self.name} does not serve: {self.log.read_text()[-4000:]}"
            time.sleep(0.05)

    def kill(self) -> None:
        """As the kernel's out-of-memory killer would: no chance to clean up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """Asks as an orchestrator would; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def descendant(self, module: str, seconds: float = 30) -> psutil.Process:
        """The child process that runs a module."""
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                try:
                    if module in child.cmdline():
                        return child
                except (psutil.NoSuchProcess, psutil.ZombieProcess):
                    continue
            time.sleep(0.02)
        raise AssertionError(f"{self.name} has no child {module}")


@dataclass
class System:
    """The running services, and stubs to the gateway."""

    folder: Path
    services: dict[str, Process]
    channel: grpc.Channel
    registry: registry_grpc.RegistryServiceStub = field(init=False)
    trainer: trainer_grpc.TrainerServiceStub = field(init=False)
    evaluator: evaluator_grpc.EvaluatorServiceStub = field(init=False)
    gateway: gateway_grpc.GatewayServiceStub = field(init=False)

    def __post_init__(self) -> None:
        self.registry = registry_grpc.RegistryServiceStub(self.channel)
        self.trainer = trainer_grpc.TrainerServiceStub(self.channel)
        self.evaluator = evaluator_grpc.EvaluatorServiceStub(self.channel)
        self.gateway = gateway_grpc.GatewayServiceStub(self.channel)

    @property
    def address(self) -> str:
        return self.services["gateway"].address

    def command_line(self, *arguments: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        """Runs `tunix-rt` as a person would."""
        program = Path(sys.executable).parent / "tunix-rt"
        environment = {**os.environ, "TUNIX_RT_GATEWAY": self.address, "COLUMNS": "160"}
        return subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, timeout=120, **kwargs
        )


@pytest.fixture(scope="session")
def system(
    s3_url: str,
    make_database: Callable[[], str],
    compile_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("system")
    addresses = {name: f"127.0.0.1:{_free_port()}" for name in NAMES}
    shared = {
        **os.environ,
        "TUNIX_RT_DATABASE": make_database(),
        "TUNIX_RT_BLOBS": s3_url.replace("/blobs?", "/system?"),
        "TUNIX_RT_LEASE_SECONDS": LEASE_SECONDS,
        "TUNIX_RT_COMPILE_CACHE": str(compile_cache),
        "TUNIX_RT_WEB": f"127.0.0.1:{_free_port()}",
        **{f"TUNIX_RT_{name.upper()}": address for name, address in addresses.items() if name != "gateway"},
    }
    services = {
        name: Process(
            name=name,
            address=address,
            environment={**shared, "TUNIX_RT_LISTEN": address, "TUNIX_RT_WORK": str(folder / name)},
            log=folder / f"{name}.log",
        )
        for name, address in addresses.items()
    }
    for service in services.values():
        service.start()
    for service in services.values():
        service.wait_serving()
    with open_blocking_channel(addresses["gateway"]) as channel:
        yield System(folder, services, channel)
    codes = {name: service.stop() for name, service in reversed(services.items())}
    assert codes == dict.fromkeys(NAMES, 0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model made on the spot, in Hugging Face layout."""
    from tunix_rt.lm.tiny import make_tiny_model
    from tunix_rt.traces.golden import golden_v2
    from tunix_rt.traces.text import completion_text

    folder = tmp_path_factory.mktemp("tiny")
    texts = [text for trace in golden_v2() for text in (trace.prompt, completion_text(trace))]
    make_tiny_model(folder, texts, seed=1)
    return folder


@pytest.fixture(scope="session")
def tiny_model(system: System, tiny_directory: Path) -> str:
    result = system.command_line("models", "import", str(tiny_directory), "--id", "tiny", "--json")
    assert result.returncode == 0, result.stderr
    return "models/tiny/versions/v1"


@pytest.fixture(scope="session")
def dataset(system: System) -> str:
    result = system.command_line("datasets", "create", "golden-v2", "--generator", "golden@2", "--json")
    assert result.returncode == 0, result.stderr
    return "datasets/golden-v2"
