"""What the registry reads from its environment, once."""

from __future__ import annotations

from typing import Literal

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The settings of the registry, each read from `TUNIX_RT_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="TUNIX_RT_", frozen=True, extra="ignore")

    database: str
    """The PostgreSQL database, `postgresql://…`."""

    blobs: str
    """The object store, `file:///folder` or `s3://…`."""

    listen: str = "127.0.0.1:50051"
    """The address to serve on."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe log line that is written."""

    metrics: str = ""
    """The address on which Prometheus reads metrics; none if empty."""
