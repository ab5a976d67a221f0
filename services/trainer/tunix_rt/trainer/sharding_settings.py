"""How a run lies on its devices, as the child reads it; pure."""

from __future__ import annotations

from dataclasses import dataclass

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
