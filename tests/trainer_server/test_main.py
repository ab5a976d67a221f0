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

from tunix_rt.trainer.settings import Settings, core_share

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


def test_a_device_of_two_slots_is_refused_at_the_start() -> None:
    environment = {**os.environ, "TUNIX_RT_SLOTS": "2", "TUNIX_RT_SLOT_DEVICES": "0;0"}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "a device belongs to one slot" in done.stderr
    assert "Traceback" not in done.stderr


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


def test_worker_ids_belong_to_slots() -> None:
    settings = Settings(worker_id="host", slots=2)
    assert [settings.worker_of(slot) for slot in range(2)] == ["host-run-0", "host-run-1"]


@pytest.mark.parametrize(
    ("settings", "added"),
    [
        ({}, {}),
        ({"slots": 2, "slot_devices": "0,1;2,3"}, {"CUDA_VISIBLE_DEVICES": "2,3"}),
        ({"slots": 2, "slot_devices": "0; 1", "device_kind": "rocm"}, {"ROCR_VISIBLE_DEVICES": "1"}),
        (
            {"slots": 2, "slot_devices": "0,1;2,3", "device_kind": "tpu"},
            {
                "TPU_VISIBLE_CHIPS": "2,3",
                "TPU_PROCESS_BOUNDS": "1,1,1",
                "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,2,1",
            },
        ),
        ({"device_memory": 0.9}, {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}),
        ({"slots": 2, "device_kind": "cpu"}, {"JAX_PLATFORMS": "cpu", "TUNIX_RT_CORES": "4,5,6,7"}),
        (
            {"compile_cache": Path("/cache"), "compile_cache_bytes": 7},
            {"TUNIX_RT_COMPILE_CACHE": "/cache", "TUNIX_RT_COMPILE_CACHE_BYTES": "7"},
        ),
    ],
)
def test_environment_of_the_last_slots_children(settings: dict[str, Any], added: dict[str, str]) -> None:
    made = Settings(**settings)
    assert made.child_environment(made.slots - 1, cores=frozenset(range(8))) == added


@pytest.mark.parametrize(
    ("cores", "parts", "shares"),
    [
        ({0, 1, 2, 3}, 2, ["0,1", "2,3"]),
        ({1, 4, 9}, 2, ["1", "4,9"]),
        ({5, 7}, 3, ["5", "7", "5"]),
    ],
)
def test_slots_share_the_cores(cores: set[int], parts: int, shares: list[str]) -> None:
    assert [core_share(frozenset(cores), part, parts) for part in range(parts)] == shares


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"slots": 2, "slot_devices": "0,1;1,2"}, "gives 1 twice; a device belongs to one slot"),
        ({"slots": 1, "slot_devices": "0,0"}, "gives 0 twice"),
        ({"slots": 2, "slot_devices": "0,1"}, "the devices of 1 slots; slots is 2"),
        ({"slots": 2, "slot_devices": "0;"}, "write it like"),
        ({"slot_devices": "0", "device_kind": "cpu"}, "device_kind is cpu"),
        ({"slot_devices": "0,1,2", "device_kind": "tpu"}, "gives a slot 3 chips"),
        ({"device_memory": 1.0}, "device_memory"),
    ],
)
def test_wrong_devices_are_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(**bad)


@pytest.mark.parametrize(
    "bad", [{"slots": 0}, {"lease_seconds": 0.5}, {"stop_seconds": 0}, {"worker_id": ""}]
)
def test_settings_have_ranges(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**bad)
