"""Checks and completes how a run lies on its devices; pure."""

from __future__ import annotations

from collections.abc import Iterator

from tunix_rt.rpc.errors import Violation
from tunix_rt.trainer.sharding_settings import MAX_DEVICES, MAX_PROCESSES
from tunix_rt.v1.run_pb2 import RunSpec, ShardingSpec


def complete_sharding(made: RunSpec) -> None:
    """Fill in the defaults of `sharding`, where there is any."""
    if made.HasField("sharding"):
        made.sharding.fsdp = made.sharding.fsdp or 1
        made.sharding.processes = made.sharding.processes or 1


def sharding_violations(sharding: ShardingSpec) -> Iterator[Violation]:
    """What is wrong with `spec.sharding`, before the devices are known."""
    path = "spec.sharding"
    for name, value, zero in (("data", sharding.data, "all that fsdp leaves"), ("fsdp", sharding.fsdp, "1")):
        if not 0 <= value <= MAX_DEVICES:
            yield Violation(
                f"{path}.{name}", f"is {value}; it must be in [1, {MAX_DEVICES}], or 0 for {zero}."
            )
    if not 0 <= sharding.processes <= MAX_PROCESSES:
        text = f"is {sharding.processes}; it must be in [1, {MAX_PROCESSES}], or 0 for 1."
        yield Violation(f"{path}.processes", text)
