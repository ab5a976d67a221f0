"""The trainer as a process: settings, start, drain."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError

from tunix_rt.trainer.settings import Settings

COMMAND = [sys.executable, "-m", "tunix_rt.trainer"]


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_wrong_setting_is_named() -> None:
    environment = {**os.environ, "TUNIX_RT_SLOTS": "0"}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "TUNIX_RT_SLOTS" in done.stderr


def test_an_unknown_object_store_ends_the_process(tmp_path: Path) -> None:
    environment = {**os.environ, "TUNIX_RT_LISTEN": "127.0.0.1:0", "TUNIX_RT_BLOBS": "ftp://x/y"}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is no object store" in done.stderr


async def test_it_serves_until_sigterm_while_the_registry_is_away(tmp_path: Path, free_port: int) -> None:
    address = f"127.0.0.1:{free_port}"
    environment = {
        **os.environ,
        "TUNIX_RT_LISTEN": address,
        "TUNIX_RT_REGISTRY": "127.0.0.1:1",
        "TUNIX_RT_BLOBS": (tmp_path / "blobs").as_uri(),
        "TUNIX_RT_WORK": str(tmp_path / "work"),
        "TUNIX_RT_SLOTS": "2",
    }
    process = await asyncio.create_subprocess_exec(*COMMAND, env=environment, stderr=subprocess.PIPE)
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="tunix_rt.v1.TrainerService")
        answer = await stub.Check(request, wait_for_ready=True, timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    process.send_signal(signal.SIGTERM)
    _, log = await process.communicate()
    assert process.returncode == 0, log.decode()
    assert b"Traceback" not in log


def test_worker_ids_and_devices_belong_to_slots() -> None:
    settings = Settings(worker_id="host", slots=2, slot_devices="0,1;2,3", compile_cache=Path("/cache"))
    assert [settings.worker_of(slot) for slot in range(2)] == ["host-run-0", "host-run-1"]
    assert settings.child_environment(1) == {
        "CUDA_VISIBLE_DEVICES": "2,3",
        "TUNIX_RT_COMPILE_CACHE": "/cache",
    }
    assert Settings(worker_id="host").child_environment(0) == {}


@pytest.mark.parametrize(
    "bad", [{"slots": 0}, {"lease_seconds": 0.5}, {"stop_seconds": 0}, {"worker_id": ""}]
)
def test_settings_have_ranges(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**bad)
