"""The settings of the trainer, from the environment."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

DeviceKind = Literal["cuda", "rocm", "tpu", "cpu"]

_VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "ROCR_VISIBLE_DEVICES", "tpu": "TPU_VISIBLE_CHIPS"}
# How the chips of a TPU host that one process has lie, by their number.
_TPU_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}


class Settings(BaseSettings):
    """Each is an environment variable `TUNIX_RT_…`, such as `TUNIX_RT_REGISTRY`.

    `slots` runs train at the same time. `slot_devices` gives each slot its
    accelerators of `device_kind`, such as `0,1;2,3` for two slots; empty leaves all of them visible
    to one slot. Slots without accelerators share the processor's cores evenly.
    `device_memory` is the share of an accelerator's memory that a child takes at its start.
    `worker_id` must differ between trainers of one registry, and stay the same over restarts.
    A child that is to stop has `stop_seconds` to save, and then is killed.
    Prometheus reads metrics at the address `metrics`; nobody does if it is empty.
    """

    model_config = SettingsConfigDict(env_prefix="TUNIX_RT_", frozen=True, extra="ignore")

    listen: str = "127.0.0.1:50052"
    registry: str = "127.0.0.1:50051"
    blobs: str = Field(default_factory=lambda: (Path.cwd() / ".tunix-rt" / "blobs").as_uri())
    work: Path = Path(".tunix-rt/work/trainer")
    compile_cache: Path | None = None
    compile_cache_bytes: int = Field(default=10 * 2**30, ge=0)
    slots: int = Field(default=1, ge=1, le=64)
    slot_devices: str = ""
    device_kind: DeviceKind = "cuda"
    device_memory: float | None = Field(default=None, gt=0, lt=1)
    worker_id: str = Field(default_factory=socket.gethostname, min_length=1)
    lease_seconds: float = Field(default=30.0, ge=1, le=600)
    stop_seconds: float = Field(default=60.0, gt=0)
    log_level: str = "INFO"
    metrics: str = ""

    @model_validator(mode="after")
    def _check_devices(self) -> Self:
        groups = self.device_groups()
        devices = [device for group in groups for device in group]
        twice = sorted({device for device in devices if devices.count(device) > 1})
        if not groups:
            return self
        if self.device_kind == "cpu":
            raise ValueError("slot_devices names accelerators, but device_kind is cpu. Leave one out.")
        if len(groups) != self.slots:
            text = f"slot_devices names the devices of {len(groups)} slots; slots is {self.slots}."
            raise ValueError(f"{text} Separate the slots by `;`.")
        if any(not device for device in devices):
            raise ValueError(f"slot_devices is `{self.slot_devices}`; write it like `0,1;2,3`.")
        if twice:
            raise ValueError(f"slot_devices gives {', '.join(twice)} twice; a device belongs to one slot.")
        odd = [len(group) for group in groups if len(group) not in _TPU_BOUNDS]
        if self.device_kind == "tpu" and odd:
            raise ValueError(f"slot_devices gives a slot {odd[0]} chips; a slot has 1, 2, 4 or 8 of a TPU.")
        return self

    def device_groups(self) -> list[list[str]]:
        """The accelerators of each slot; none where all are left visible."""
        if not self.slot_devices:
            return []
        groups = self.slot_devices.split(";")
        return [[device.strip() for device in group.split(",")] for group in groups]

    def worker_of(self, slot: int) -> str:
        """The worker id of a slot, the same after every restart."""
        return f"{self.worker_id}-run-{slot}"

    def child_environment(self, slot: int, *, cores: frozenset[int] | None = None) -> dict[str, str]:
        """What is added to the environment of a slot's children.

        `cores` are those that the slots share; by default all that this process may use.
        """
        added: dict[str, str] = {}
        if self.compile_cache:
            added["TUNIX_RT_COMPILE_CACHE"] = str(self.compile_cache.absolute())
            added["TUNIX_RT_COMPILE_CACHE_BYTES"] = str(self.compile_cache_bytes)
        if self.device_memory is not None:
            added["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{self.device_memory:g}"
        if self.device_kind == "cpu":
            added["JAX_PLATFORMS"] = "cpu"
        if groups := self.device_groups():
            return added | _visible(self.device_kind, groups[slot])
        share = core_share(cores or frozenset(os.sched_getaffinity(0)), slot, self.slots)
        return added | ({"TUNIX_RT_CORES": share} if self.slots > 1 else {})


def core_share(cores: frozenset[int], part: int, parts: int) -> str:
    """A part's cores, such as `0,1`; where there are fewer cores than parts, some share one."""
    ordered = sorted(cores)
    if len(ordered) < parts:
        return str(ordered[part % len(ordered)])
    first, end = (len(ordered) * edge // parts for edge in (part, part + 1))
    return ",".join(map(str, ordered[first:end]))


def _visible(kind: DeviceKind, devices: list[str]) -> dict[str, str]:
    visible = {_VISIBLE[kind]: ",".join(devices)}
    if kind == "tpu":
        visible |= {
            "TPU_PROCESS_BOUNDS": "1,1,1",
            "TPU_CHIPS_PER_PROCESS_BOUNDS": _TPU_BOUNDS[len(devices)],
        }
    return visible
