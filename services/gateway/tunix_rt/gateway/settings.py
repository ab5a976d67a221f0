"""The settings of the gateway, read once from the environment."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Self

from pydantic import model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where the gateway listens, where the other services are, and who may call.

    `tokens` holds SHA-256 digests in hex, separated by commas. Without tokens
    nobody is asked for one, so every address must then be a loopback address,
    unless `insecure` says that something else guards the ports. Prometheus reads
    metrics at the address `metrics`, without a token; nobody does if it is empty.
    """

    model_config = SettingsConfigDict(env_prefix="TUNIX_RT_", frozen=True, extra="ignore")

    listen: str = "127.0.0.1:50050"
    registry: str = "127.0.0.1:50051"
    trainer: str = "127.0.0.1:50052"
    evaluator: str = "127.0.0.1:50053"
    web: str = "127.0.0.1:8080"
    tokens: str = ""
    insecure: bool = False
    log_level: str = "INFO"
    metrics: str = ""

    @property
    def token_digests(self) -> tuple[str, ...]:
        """The digests of the tokens that open the gateway."""
        return tuple(part.strip().lower() for part in self.tokens.split(",") if part.strip())

    @model_validator(mode="after")
    def _check(self) -> Self:
        bad = [digest for digest in self.token_digests if not _is_sha256(digest)]
        if bad:
            raise ValueError(
                f"TUNIX_RT_TOKENS has {len(bad)} entries that are no SHA-256 in hex. "
                "Make one with: printf %s TOKEN | sha256sum"
            )
        if self.token_digests or self.insecure:
            return self
        for name, address in (("TUNIX_RT_LISTEN", self.listen), ("TUNIX_RT_WEB", self.web)):
            if address and not is_loopback(address):
                raise ValueError(
                    f"{name} is {address}, which other machines can reach, and TUNIX_RT_TOKENS is empty. "
                    "Set tokens, or TUNIX_RT_INSECURE=1 if something else guards the port."
                )
        return self


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`. Raises ValueError for anything else."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():
        raise ValueError(f"`{address}` is no address; it must have the form `host:port`.")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `host:port`."""
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)
