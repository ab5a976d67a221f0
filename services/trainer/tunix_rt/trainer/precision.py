"""Which numbers a device computes with fast."""

from __future__ import annotations

import jax

_FIRST_FAST_GPU = 8.0


def slow_type(compute_type: str, device: jax.Device) -> str:
    """What to say when the device has no hardware for the type, else nothing."""
    if compute_type != "BFLOAT16" or device.platform == "tpu":
        return ""
    if device.platform == "gpu" and float(getattr(device, "compute_capability", 0)) >= _FIRST_FAST_GPU:
        return ""
    kind = f"{device.platform} {device.device_kind}"
    return f"{kind} has no fast BFLOAT16: steps may take longer than with FLOAT32"
