"""The settings of the trainer, from the environment."""

from __future__ import annotations

import socket
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Each is an environment variable `TUNIX_RT_…`, such as `TUNIX_RT_REGISTRY`.

    `slots` runs train at the same time. `slot_devices` gives each slot its
    accelerators, such as `0,1;2,3` for two slots; empty leaves all of them visible.
    `worker_id` must differ between trainers of one registry, and stay the same over restarts.
    A child that is to stop has `stop_seconds` to save, and then is killed.
    """

    model_config = SettingsConfigDict(env_prefix="TUNIX_RT_", frozen=True, extra="ignore")

    listen: str = "127.0.0.1:50052"
    registry: str = "127.0.0.1:50051"
    blobs: str = Field(default_factory=lambda: (Path.cwd() / ".tunix-rt" / "blobs").as_uri())
    work: Path = Path(".tunix-rt/work/trainer")
    compile_cache: Path | None = None
    slots: int = Field(default=1, ge=1, le=64)
    slot_devices: str = ""
    worker_id: str = Field(default_factory=socket.gethostname, min_length=1)
    lease_seconds: float = Field(default=30.0, ge=1, le=600)
    stop_seconds: float = Field(default=60.0, gt=0)
    log_level: str = "INFO"

    def worker_of(self, slot: int) -> str:
        """The worker id of a slot, the same after every restart."""
        return f"{self.worker_id}-run-{slot}"

    def child_environment(self, slot: int) -> dict[str, str]:
        """What is added to the environment of a slot's children."""
        added = {"TUNIX_RT_COMPILE_CACHE": str(self.compile_cache.absolute())} if self.compile_cache else {}
        if self.slot_devices:
            groups = self.slot_devices.split(";")
            if len(groups) < self.slots:
                raise ValueError(f"TUNIX_RT_SLOT_DEVICES names {len(groups)} of {self.slots} slots' devices.")
            added |= {"CUDA_VISIBLE_DEVICES": groups[slot].strip()}
        return added
