"""How a run lies on its devices, as the child reads it; pure."""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.spec_reader import SpecReader

MAX_DEVICES = 4096
MAX_PROCESSES = 16


@dataclass(frozen=True)
class ShardingSettings:
    """The devices of `data` and `fsdp`, and the run's processes; `data` 0 takes all that `fsdp` leaves."""

    data: int = 0
    fsdp: int = 1
    processes: int = 1


def read_sharding(reader: SpecReader) -> ShardingSettings:
    """The section of sharding; its problems are left with the reader."""
    settings = ShardingSettings(
        data=reader.whole("data", 0, high=MAX_DEVICES),
        fsdp=reader.whole("fsdp", 0, high=MAX_DEVICES) or 1,
        processes=reader.whole("processes", 0, high=MAX_PROCESSES) or 1,
    )
    reader.finish()
    return settings


def mesh_shape(settings: ShardingSettings, devices: int) -> tuple[int, int]:
    """The devices of `data` and of `fsdp`. Raises TrainingFailure when there are not so many."""
    data, fsdp, processes = settings.data, settings.fsdp, settings.processes
    if data == 0 and devices % fsdp == 0:
        data = devices // fsdp
    if data == 0 or data * fsdp > devices:
        asked = f"sharding.fsdp is {fsdp}" + (f" and sharding.data {data}" if data else "")
        remedy = f"Set them so that their product is at most {devices}, or give the slot more devices."
        raise TrainingFailure("INVALID_FIELDS", f"{asked}; the run has {devices} devices. {remedy}")
    if processes > 1 and data * fsdp != devices:
        asked = f"sharding.data × sharding.fsdp is {data * fsdp}"
        message = f"{asked}; {processes} processes use all {devices} devices. Leave sharding.data out."
        raise TrainingFailure("INVALID_FIELDS", message)
    return data, fsdp
