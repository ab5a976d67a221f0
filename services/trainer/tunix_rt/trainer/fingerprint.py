"""What the bytes of a run depend on beside its spec and its files: the code and the machine."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import jax

from tunix_rt import lm, trainer

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")
_CPU_INFO = Path("/proc/cpuinfo")


def environment() -> dict[str, str]:
    """Code, libraries and device: with the same ones, the same spec gives the same bytes."""
    device = jax.devices()[0]
    kind = _cpu_model() if device.platform == "cpu" else device.device_kind
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"code_version": code_version(), **libraries, "device": f"{device.platform} {kind}"}


def differences(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """What is not the same in two environments, such as `jax 0.7.0 -> 0.7.1`; empty if all is."""
    changed = [name for name in new if old.get(name) != new[name]]
    return ", ".join(f"{name} {old.get(name)} -> {new[name]}" for name in changed)


@cache
def code_version() -> str:
    """The package's version, and the start of a digest of the modules that training runs through."""
    digest = hashlib.sha256()
    for package in (trainer, lm):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{package.__name__} {path.relative_to(folder).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return f"{version('tunix-rt')}+{digest.hexdigest()[:12]}"


def _cpu_model() -> str:
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()
