"""What the evaluator reads from its environment, once."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tunix_rt.evaluator.endpoints import Endpoint
from tunix_rt.judges.calibration import DEFAULT_THRESHOLD
from tunix_rt.rpc.names import ID_PATTERN


class EndpointSettings(BaseModel):
    """An OpenAI-compatible endpoint that may judge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    """The base of its API, such as `https://host/v1`."""

    key_variable: str = ""
    """The environment variable that holds its key; without one no key is sent."""

    concurrency: int = Field(default=4, ge=1, le=32)
    """Requests at the same time."""

    timeout_seconds: float = Field(default=60.0, gt=0, le=600)
    """How long an answer may take."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must have the form `https://host/path`")
        if parts.username or parts.password:
            raise ValueError("must not hold a password; name the key's variable in `key_variable`")
        return url


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

    endpoints: dict[str, EndpointSettings] = {}
    """The endpoints that may judge, by name: `{"openai": {"url": "https://…/v1", "key_variable": "KEY"}}`."""

    judge_kappa: float = Field(default=DEFAULT_THRESHOLD, ge=-1, le=1)
    """What the lower end of a judge's kappa must reach for its verdicts to rank."""

    log_level: str = "INFO"
    """The least severe log line that is written."""

    metrics: str = ""
    """The address on which Prometheus reads metrics; none if empty."""

    @field_validator("endpoints")
    @classmethod
    def _check_names(cls, endpoints: dict[str, EndpointSettings]) -> dict[str, EndpointSettings]:
        bad = [name for name in endpoints if not re.fullmatch(ID_PATTERN, name)]
        if bad:
            raise ValueError(f"the names {bad} must match `{ID_PATTERN}`")
        return endpoints


def named_endpoints(settings: Settings, environment: Mapping[str, str]) -> dict[str, Endpoint]:
    """The endpoints with their keys. Raises ValueError where the variable of a key is not set or no key."""
    missing = [
        each.key_variable
        for each in settings.endpoints.values()
        if each.key_variable and not environment.get(each.key_variable)
    ]
    if missing:
        raise ValueError(f"Set {', '.join(missing)}, which TUNIX_RT_ENDPOINTS names for keys.")
    keys = {each.key_variable for each in settings.endpoints.values() if each.key_variable}
    if bad := sorted(name for name in keys if not re.fullmatch("[!-~]+", environment[name])):
        raise ValueError(f"{', '.join(bad)} must be printable ASCII without spaces, as keys are.")
    return {
        name: Endpoint(
            name,
            each.url,
            environment[each.key_variable] if each.key_variable else "",
            each.concurrency,
            each.timeout_seconds,
        )
        for name, each in settings.endpoints.items()
    }
