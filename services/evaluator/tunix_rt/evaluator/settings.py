"""What the evaluator reads from its environment, once."""

from __future__ import annotations

import socket
from pathlib import Path

from pydantic import ByteSize, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The settings of the evaluator, each read from `TUNIX_RT_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="TUNIX_RT_", frozen=True, extra="ignore")

    registry: str
    """The address of the registry, `host:port`."""

    blobs: str
    """The object store, `file:///folder` or `s3://…`."""

    listen: str = "127.0.0.1:50053"
    """The address to serve on."""

    work: Path = Path(".tunix-rt/work/evaluator")
    """The folder of fetched weights and datasets; they can be fetched again."""

    compile_cache: Path | None = None
    """The folder of compiled programs; nothing is kept without one."""

    output_cache_bytes: int = Field(default=2**30, ge=0)
    """The size of the outputs that are kept for later evaluations, in `work`; 0 keeps none."""

    engine_memory: ByteSize | None = Field(default=None, gt=0)
    """What weights and caches may take, such as `8GB`; 60 % of the device's or the machine's memory."""

    worker_id: str = Field(default_factory=lambda: f"{socket.gethostname()}-evaluation-0")
    """The name of the worker, unique among all workers and the same after a restart."""

    lease_seconds: float = Field(default=30.0, ge=1, le=600)
    """How long a claimed evaluation is held without a renewal."""

    log_level: str = "INFO"
    """The least severe log line that is written."""
