"""A stack that was backed up while it trained goes on in an empty place, and ends with the same weights."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.conftest import Process, System, _free_port
from tests.system.test_crashes import finish, reaches, wait_for, weights
from tunix_rt.rpc.channel import open_blocking_channel
from tunix_rt.v1 import run_pb2, trainer_service_pb2

STEPS = 150


@pytest.fixture
def train(system, tiny_model, dataset) -> str:
    """A run that has recorded its first checkpoint and trains on."""
    spec = run_pb2.RunSpec(
        model=tiny_model,
        dataset=dataset,
        steps=STEPS,
        batch_size=2,
        max_length=256,
        optimizer=run_pb2.OptimizerSpec(learning_rate=1e-3, warmup_steps=5),
        checkpoint_every=20,
        validate_every=0,
        seed=4,
    )
    request = trainer_service_pb2.CreateRunRequest(run_id="backed-up", run=run_pb2.Run(spec=spec))
    name = str(system.trainer.CreateRun(request, timeout=30).name)
    wait_for(reaches(system, name, 25, 1), 60, "the first checkpoint")
    return name


def tunix_rt(*arguments: str, database: str, blobs: str) -> None:
    program = Path(sys.executable).parent / "tunix-rt"
    environment = {**os.environ, "TUNIX_RT_DATABASE": database, "TUNIX_RT_BLOBS": blobs}
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def restored(system, train, make_database: Callable[[], str], tmp_path: Path) -> Iterator[System]:
    """Registry and trainer on what was restored from a backup of the running system."""
    old = system.services["registry"].environment
    file, database, blobs = tmp_path / "backup.tar", make_database(), f"file://{tmp_path}/blobs"
    tunix_rt("backup", str(file), database=old["TUNIX_RT_DATABASE"], blobs=old["TUNIX_RT_BLOBS"])
    tunix_rt("restore", str(file), database=database, blobs=blobs)
    addresses = {name: f"127.0.0.1:{_free_port()}" for name in ("registry", "trainer")}
    services = {
        name: Process(
            name,
            address,
            {
                **old,
                "TUNIX_RT_DATABASE": database,
                "TUNIX_RT_BLOBS": blobs,
                "TUNIX_RT_REGISTRY": addresses["registry"],
                "TUNIX_RT_LISTEN": address,
                "TUNIX_RT_WORK": str(tmp_path / name),
            },
            tmp_path / f"{name}.log",
        )
        for name, address in addresses.items()
    }
    for service in services.values():
        service.start()
    for service in services.values():
        service.wait_serving()
    with open_blocking_channel(addresses["registry"]) as channel:
        yield System(tmp_path, services, channel)
    assert [service.stop() for service in reversed(services.values())] == [0, 0]


@pytest.mark.timeout(240)
def test_a_restored_stack_trains_on_and_ends_with_the_same_weights(system, train, restored) -> None:
    there = finish(restored, train)
    assert (there.status.attempt, there.status.progress) == (2, STEPS)
    here = finish(system, train)
    assert weights(restored, there).sha256 == weights(system, here).sha256
